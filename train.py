"""Train and evaluate: `python train.py experiment=…`; `python train.py --help` lists the settings."""

from clep.train import main

if __name__ == "__main__":
    main()

"""Jobs that turn the files of datasets into banks and tables: `python -m clep.preprocess JOB key=value ...`.

Each job is a class (see `clep.preprocess.job.Job`) and nothing is imported with the package:

    from clep.preprocess.kinetics import Kinetics
    coverage = Kinetics(csv="val.csv", features="features", output_folder="kinetics").run()

`clep.preprocess.job.ensure` runs several jobs as far as their outputs are missing.
"""

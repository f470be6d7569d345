"""Registers every job with Hydra when it is imported: `hydra.searchpath` of conf/train.yaml names this module.

So `prepare` groups can select jobs (`/job@kinetics: kinetics`) in every program that composes `train`.
"""

from clep.preprocess.catalogue import find_job, listed_jobs, register

for name in listed_jobs():
    register(find_job(name))

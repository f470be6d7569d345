"""Jobs that turn the files of data sets into banks and tables; each module named in `conf/job` has a function `run`.

Nothing here is imported with the package: `from clep.preprocess import ego4d_features`, then `ego4d_features.run(...)`;
`from clep.preprocess.plan import ensure`.
"""

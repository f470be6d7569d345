"""Feature bank operators: what a moment takes from the minutes around it (Wu et al., CVPR 2019), one a file."""

from clep.models.feature_bank_operators.non_local import FBONonLocal
from clep.models.feature_bank_operators.none import FBONone
from clep.models.feature_bank_operators.operator import FeatureBankOperator
from clep.models.feature_bank_operators.pooled import FBOAvg, FBOMax

__all__ = ["FBOAvg", "FBOMax", "FBONonLocal", "FBONone", "FeatureBankOperator"]

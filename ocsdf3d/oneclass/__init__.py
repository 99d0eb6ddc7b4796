"""The same learner for data of any kind: what a bounded score proves of rankings and decisions."""

from ocsdf3d.oneclass.certificate import Rates, auroc, certified_auroc, certified_rates

__all__ = ["Rates", "auroc", "certified_auroc", "certified_rates"]

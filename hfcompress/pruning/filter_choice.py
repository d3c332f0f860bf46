"""Which filters stay: the most important ones that a budget allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from torch import Tensor

from hfcompress.modeling.groups import Group
from hfcompress.pruning.filter_costs import Cost

Scope = Literal["uniform", "global"]


@dataclass(frozen=True)
class Sizes:
    """The sizes that each group may have: all its units, or a multiple of some number.

    Args:
        groups: The groups.
        multiple: A group that is pruned keeps a multiple of so many units, at least once that.
    """

    groups: Sequence[Group]
    multiple: int

    @property
    def largest(self) -> dict[str, int]:
        """All units of each group."""
        return {group.name: group.units for group in self.groups}

    @property
    def smallest(self) -> dict[str, int]:
        """The fewest units that each group may keep."""
        return {group.name: min(group.units, self.multiple) for group in self.groups}

    def below(self, group: Group, units: int) -> int | None:
        """Return a group's next smaller size; None where there is none."""
        fewer = (units - 1) // self.multiple * self.multiple
        return fewer if fewer >= self.multiple else None

    def at(self, share: Fraction) -> dict[str, int]:
        """Return the largest sizes with at most a share of each group's units, but never below the smallest."""
        smallest = self.smallest
        return {
            group.name: group.units
            if share == 1
            else max(smallest[group.name], int(share * group.units) // self.multiple * self.multiple)
            for group in self.groups
        }


def uniform_sizes(sizes: Sizes, cost: Cost, budget: float) -> dict[str, int]:
    """Return the sizes within a budget at which every group keeps the same share, up to rounding, the largest such."""
    shares = sorted({Fraction(units, group.units) for group in sizes.groups for units in range(1, group.units + 1)})
    low, high = -1, len(shares)  # what fits, what does not
    while high - low > 1:
        middle = (low + high) // 2
        if cost.of(sizes.at(shares[middle])) <= budget:
            low = middle
        else:
            high = middle
    return sizes.at(shares[low]) if low >= 0 else sizes.smallest


def global_sizes(sizes: Sizes, cost: Cost, budget: float, scores: Mapping[str, Tensor], price: Cost) -> dict[str, int]:
    """Return the sizes within a budget that are left when the least important units of all groups go one after another.

    The next to go are those that lose the least importance for what they save; that is counted anew each time, since a
    filter saves less once its neighbours are gone.

    Args:
        sizes: What each group may have.
        cost: What the budget limits.
        budget: The most that it may be.
        scores: Importance of each unit, by group.
        price: What counts as saved: the same cost, or the number of units.
    """
    units = sizes.largest
    sums = {name: [0.0, *values.sort().values.double().cumsum(0).tolist()] for name, values in scores.items()}
    left = cost.of(units)
    while left > budget:
        ways = []
        for group in sizes.groups:
            fewer = sizes.below(group, units[group.name])
            if fewer is None:
                continue
            gone, going = group.units - units[group.name], group.units - fewer
            lost = sums[group.name][going] - sums[group.name][gone]
            ways.append((lost / price.saved(units, group.name, fewer), group.name, fewer))
        _, name, fewer = min(ways)
        left -= cost.saved(units, name, fewer)
        units[name] = fewer
    return units


def most_important(scores: Tensor, count: int) -> list[int]:
    """Return the numbers of the most important units, ascending; of equal ones the first stay."""
    return sorted(scores.sort(descending=True, stable=True).indices[:count].tolist())

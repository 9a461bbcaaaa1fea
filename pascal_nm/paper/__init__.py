"""The paper, item by item.

Here is what each item says, what is here of it, what was printed wrongly, and every figure that
can be computed.

PASCAL: Ramesh and Srinivasan, TMLR 2025, https://openreview.net/forum?id=kIdB7Xp1Iv.

- :mod:`pascal_nm.paper.items`: a row for each definition, theorem, equation, algorithm, table,
  figure and appendix.
- :mod:`pascal_nm.paper.errata`: what is printed and should read otherwise.
- :mod:`pascal_nm.paper.figures`: its figures as printed, from its own inputs, and from the true
  shapes of the layers.
"""

from __future__ import annotations

from pascal_nm.paper.errata import ERRATA as ERRATA
from pascal_nm.paper.errata import Erratum as Erratum
from pascal_nm.paper.figures import Entry as Entry
from pascal_nm.paper.figures import entries as entries
from pascal_nm.paper.items import GROUPS as GROUPS
from pascal_nm.paper.items import ITEMS as ITEMS
from pascal_nm.paper.items import STATUSES as STATUSES
from pascal_nm.paper.items import Item as Item

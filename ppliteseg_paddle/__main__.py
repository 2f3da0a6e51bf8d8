"""`python -m ppliteseg_paddle` is the command `ppliteseg`, where no scripts are installed."""

import sys

from ppliteseg_paddle.cli.main import main

sys.exit(main())

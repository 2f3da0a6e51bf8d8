"""What `paddle.distributed.launch` starts as each process: the same program, with the launcher's arguments as its
command line."""

import sys

if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose module names must not hide others
    from ppliteseg_paddle.cli.main import main

    sys.exit(main())

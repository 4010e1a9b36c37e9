"""``python -m guantong.cli``: the command line where no script was installed."""

from guantong.cli import main

main(prog_name="guantong")

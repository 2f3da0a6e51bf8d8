"""A clock for tests of the time budget."""

from ppliteseg_paddle.engine.loop.budget import Budget


class Ticks:
    """A clock that advances by a second each time a step reads it."""

    def __init__(self, monkeypatch):
        self.passed = 0.0
        monkeypatch.setattr(Budget, "now", lambda budget: budget.earlier + self.passed)
        tick = Budget.tick

        def count(budget):
            self.passed += 1
            tick(budget)

        monkeypatch.setattr(Budget, "tick", count)

//! Nothing but the tests in `tests/`: see there.

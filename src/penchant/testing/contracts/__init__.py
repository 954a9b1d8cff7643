"""The contract of each kind of component as a suite of tests to subclass."""

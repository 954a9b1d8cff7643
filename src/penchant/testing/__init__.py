"""What a plug-in must pass: contract suites, slow oracles, builders of small worlds."""

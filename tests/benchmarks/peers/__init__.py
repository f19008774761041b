"""The peers whose profile is measured beside ours, each as its documentation sets it up, with SQLite."""

"""Programs beside the package: how the demo model was made."""

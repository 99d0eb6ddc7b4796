"""Dense networks 1-Lipschitz by construction, the steps that keep them so, and the bound that proves it."""

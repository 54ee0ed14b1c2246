"""Speed and cost, as ratios to what plain OpenSSH and a bare JupyterLab take in the same run."""

"""The cluster side: a JupyterLab session inside a batch job, and the way to it."""

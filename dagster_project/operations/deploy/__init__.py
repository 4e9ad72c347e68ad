"""Deploying the platform on AWS: images, Terraform, secrets, migrations, services, and what it costs.

Runs on the machine of whoever deploys, but for ``rest``, which runs inside. Each step looks at what is there before it
does anything, so that a deploy that was killed is repeated as a whole. What AWS holds is described in deploy/terraform.
"""

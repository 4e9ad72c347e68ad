# Which Terraform and which providers (exactly: no lock file is kept, which would name the platforms of whoever made it), where the state is, and what every resource is tagged with.

terraform {
  # 1.10 brought the lock file of S3's own, 1.11 made it stable: no DynamoDB table is needed.
  required_version = ">= 1.11"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }

  # Filled by `bindery deploy aws`, or by hand: terraform init -backend-config=backend.hcl (docs/aws.md).
  backend "s3" {
    use_lockfile = true
    encrypt      = true
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = merge(
      {
        "bindery.project"     = var.project
        "bindery.environment" = var.size
        "bindery.managed-by"  = "terraform"
      },
      var.tags,
    )
  }
}

data "aws_caller_identity" "this" {}

data "aws_partition" "this" {}

data "aws_availability_zones" "this" {
  state = "available"

  # Local zones and Wavelength zones have no Fargate.
  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

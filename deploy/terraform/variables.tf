# What may be said in terraform.tfvars. What is null takes its value from the size: sizes.tf.

variable "project" {
  description = "Name of the platform in this account and region; every name begins with it. Two platforms in one account: two projects."
  type        = string
  default     = "bindery"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}$", var.project))
    error_message = "project begins with a letter and has 2 to 21 small letters, digits and hyphens: names of buckets and load balancers are made of it."
  }
}

variable "region" {
  description = "AWS region of everything, such as eu-west-1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region is a name such as eu-west-1."
  }
}

variable "size" {
  description = "minimal: one task that sleeps when idle, no load balancer. small: always on, behind a load balancer. production: private subnets, two zones, the database twice."
  type        = string
  default     = "minimal"

  validation {
    condition     = contains(["minimal", "small", "production"], var.size)
    error_message = "size is minimal, small or production."
  }
}

variable "tags" {
  description = "Further tags of everything, for cost allocation."
  type        = map(string)
  default     = {}
}

variable "kms_key_arn" {
  description = "Key of your own that encrypts buckets, queue, database, secrets and logs. null: keys that AWS manages, which cost nothing. Its policy must let CloudWatch Logs, S3 and SNS of this account use it."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:aws[a-z-]*:kms:", var.kms_key_arn))
    error_message = "kms_key_arn is the ARN of a key: arn:aws:kms:..."
  }
}

# Images

variable "dagster_image" {
  description = "Image of everything but dbt's steps, by digest: <repository>@sha256:... `bindery deploy aws` gives it."
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.dagster_image))
    error_message = "dagster_image is pinned by its digest: <repository>@sha256:<64 hex digits>. A tag may mean another image tomorrow."
  }
}

variable "dbt_image" {
  description = "Image of dbt's steps, by digest."
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.dbt_image))
    error_message = "dbt_image is pinned by its digest: <repository>@sha256:<64 hex digits>."
  }
}

variable "proxy_image" {
  description = "Caddy, which asks for the login where ui_login is basic."
  type        = string
  default     = "public.ecr.aws/docker/library/caddy:2.10.2-alpine"
}

variable "release" {
  description = "What the images were built from: version and commit. Kept as a tag of every task definition, so that a rollback finds it."
  type        = string
  default     = "unknown"
}

variable "cpu_architecture" {
  description = "What the images were built for. ARM64 costs a fifth less."
  type        = string
  default     = "X86_64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.cpu_architecture)
    error_message = "cpu_architecture is X86_64 or ARM64."
  }
}

variable "delete_data" {
  description = "Whether buckets, image repositories and secrets may be deleted with what is in them. `bindery deploy aws destroy --with-data` sets it, after asking."
  type        = bool
  default     = false
}

# Network

variable "vpc_id" {
  description = "A VPC that there is. null: one is made."
  type        = string
  default     = null
}

variable "task_subnet_ids" {
  description = "With vpc_id: subnets of tasks. They need a way to AWS and to the sources: a public address (tasks_public_ip), a NAT gateway or endpoints."
  type        = list(string)
  default     = []
}

variable "public_subnet_ids" {
  description = "With vpc_id: two public subnets in different zones, for the load balancer."
  type        = list(string)
  default     = []
}

variable "database_subnet_ids" {
  description = "With vpc_id: two subnets in different zones, for the database."
  type        = list(string)
  default     = []
}

variable "tasks_public_ip" {
  description = "Whether tasks get public addresses (nothing may come in by them). null: where the size has no NAT gateway."
  type        = bool
  default     = null
}

variable "vpc_cidr" {
  description = "Addresses of the VPC that is made."
  type        = string
  default     = "10.42.0.0/16"

  validation {
    condition     = can(cidrsubnet(var.vpc_cidr, 4, 11))
    error_message = "vpc_cidr is an address block of at most /24, such as 10.42.0.0/16."
  }
}

variable "flow_logs" {
  description = "Whether the network's connections are logged, in the VPC that is made. null: by size."
  type        = bool
  default     = null
}

# Database

variable "database_class" {
  description = "Instance class of RDS, such as db.t4g.micro. null: by size."
  type        = string
  default     = null
}

variable "database_storage_gib" {
  description = "Storage at first; it grows by itself up to five times that. null: by size."
  type        = number
  default     = null

  validation {
    condition     = var.database_storage_gib == null ? true : var.database_storage_gib >= 20
    error_message = "RDS begins at 20 GiB."
  }
}

variable "database_protected" {
  description = "Whether the database refuses to be deleted, and leaves a snapshot when it is. `bindery deploy aws destroy --with-data` turns it off first."
  type        = bool
  default     = true
}

# User interface

variable "ui_login" {
  description = "none: no load balancer, the UI is reached through a tunnel (`bindery deploy aws ui`). basic: one login, asked for by Caddy. oidc: your identity provider, asked for by the load balancer. null: none in minimal, else basic."
  type        = string
  default     = null

  validation {
    condition     = var.ui_login == null ? true : contains(["none", "basic", "oidc"], var.ui_login)
    error_message = "ui_login is none, basic or oidc."
  }
}

variable "certificate_arn" {
  description = "Certificate (ACM, this region) of the UI's host name. Needed where there is a load balancer: passwords don't travel in the clear."
  type        = string
  default     = null
}

variable "ui_allowed_cidrs" {
  description = "Who may reach the load balancer."
  type        = list(string)
  default     = ["0.0.0.0/0"]
}

variable "oidc" {
  description = "With ui_login = oidc: issuer, its three endpoints, and the client's id."
  type = object({
    issuer                 = string
    authorization_endpoint = string
    token_endpoint         = string
    user_info_endpoint     = string
    client_id              = string
    scope                  = optional(string, "openid email")
  })
  default = null
}

variable "oidc_client_secret" {
  description = "With ui_login = oidc: the client's secret. The load balancer keeps it, and so does Terraform's state (docs/decisions/0060-secrets-on-aws.md)."
  type        = string
  default     = null
  sensitive   = true
}

# Tasks

variable "steps_capacity" {
  description = "Where steps run: FARGATE_SPOT, which is cheaper and may be interrupted (the step is repeated), or FARGATE."
  type        = string
  default     = "FARGATE_SPOT"

  validation {
    condition     = contains(["FARGATE_SPOT", "FARGATE"], var.steps_capacity)
    error_message = "steps_capacity is FARGATE_SPOT or FARGATE."
  }
}

variable "gpu_instance_type" {
  description = "EC2 instances for steps that ask for a GPU, such as g4dn.xlarge; there are none while no step asks. null: no GPUs."
  type        = string
  default     = null
}

variable "gpu_most_instances" {
  description = "Most GPU instances at once."
  type        = number
  default     = 1
}

variable "shell_in_tasks" {
  description = "Whether `aws ecs execute-command` may open a shell in runs and steps. The services allow it where the UI is reached through a tunnel."
  type        = bool
  default     = false
}

variable "environment" {
  description = "Further settings of the platform, as in docs/settings.md: { BINDERY_SOURCES = \"live\" }. No secrets: those are `bindery deploy aws secret`."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.environment) : can(regex("^[A-Z][A-Z0-9_]*$", name)) && !can(regex("(PASSWORD|SECRET|TOKEN)$", name))])
    error_message = "names of settings are in capitals, and passwords, secrets and tokens belong to `bindery deploy aws secret`."
  }
}

variable "secrets_in" {
  description = "secretsmanager ($0.40 a month each) or ssm (parameters, free). null: ssm in minimal."
  type        = string
  default     = null

  validation {
    condition     = var.secrets_in == null ? true : contains(["secretsmanager", "ssm"], var.secrets_in)
    error_message = "secrets_in is secretsmanager or ssm."
  }
}

# Waking (size minimal)

variable "wake_schedule" {
  description = "When a sleeping platform wakes, looks for what is due (schedules, uploads, jobs to relaunch) and sleeps again: cron() or rate() of EventBridge Scheduler, in UTC."
  type        = string
  default     = "cron(0 4 * * ? *)"

  validation {
    condition     = can(regex("^(cron|rate)\\(.+\\)$", var.wake_schedule))
    error_message = "wake_schedule is cron(...) or rate(...)."
  }
}

variable "sleep_after" {
  description = "A platform without runs, without waiting uploads and without a visitor (`bindery deploy aws wake --for`) sleeps after so long."
  type        = string
  default     = "10m"

  validation {
    condition     = can(regex("^[1-9][0-9]*[smh]$", var.sleep_after))
    error_message = "sleep_after is a time such as 10m."
  }
}

# Uploads

variable "uploads_prefix" {
  description = "Only objects whose keys begin with it are told of. Without a leading slash: keys have none."
  type        = string
  default     = ""

  validation {
    condition     = !startswith(var.uploads_prefix, "/")
    error_message = "uploads_prefix begins with a slash, and no key does: it would match nothing."
  }
}

variable "uploads_suffix" {
  description = "Only objects whose keys end with it are told of, such as .csv."
  type        = string
  default     = ""
}

variable "uploads_retries" {
  description = "A message that was received so often and never finished goes to the dead letters."
  type        = number
  default     = 5

  validation {
    condition     = var.uploads_retries >= 1 && var.uploads_retries <= 1000
    error_message = "uploads_retries is 1 to 1000."
  }
}

variable "keep_noncurrent_days" {
  description = "Days that overwritten and deleted objects can be brought back. A replay of an upload that was overwritten reaches as far back as this."
  type        = number
  default     = 90
}

variable "landing_archive_days" {
  description = "Landed bytes older than this move to storage that costs a fifth (Glacier Instant Retrieval, which a replay can read at once). 0: never."
  type        = number
  default     = 90
}

# Watching

variable "log_days" {
  description = "Days that logs are kept. null: by size."
  type        = number
  default     = null
}

variable "alarm_email" {
  description = "Who is told of alarms and of the budget; AWS sends a message to be confirmed. null: nobody, the alarms are only shown."
  type        = string
  default     = null
}

variable "monthly_budget_usd" {
  description = "A month that costs more, or is forecast to, is told to alarm_email. 0: no budget."
  type        = number
  default     = 50
}

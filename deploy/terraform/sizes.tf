# What the three sizes mean, and the names everything goes by. A variable that isn't null wins over its size.

locals {
  sizes = {
    minimal = {
      nat_gateways   = 0
      zones          = 2
      database_class = "db.t4g.micro"
      database_gib   = 20
      database_zones = 1
      backup_days    = 7
      insights       = false
      ui_login       = "none"
      secrets_in     = "ssm" # pragma: allowlist secret
      log_days       = 14
      flow_logs      = false
    }
    small = {
      nat_gateways   = 0
      zones          = 2
      database_class = "db.t4g.small"
      database_gib   = 50
      database_zones = 1
      backup_days    = 14
      insights       = false
      ui_login       = "basic"
      secrets_in     = "secretsmanager" # pragma: allowlist secret
      log_days       = 30
      flow_logs      = false
    }
    production = {
      nat_gateways   = 2
      zones          = 2
      database_class = "db.m7g.large"
      database_gib   = 100
      database_zones = 2
      backup_days    = 35
      insights       = true
      ui_login       = "basic"
      secrets_in     = "secretsmanager" # pragma: allowlist secret
      log_days       = 90
      flow_logs      = true
    }
  }
  size = local.sizes[var.size]

  # Fargate's units (1024 are a vCPU) and MiB. Pairs that Fargate has; tests/aws/test_terraform_files.py looks.
  task_sizes = {
    minimal = {
      platform = { cpu = 512, memory = 3072 }
      run      = { cpu = 256, memory = 1024 }
      step     = { cpu = 1024, memory = 2048 }
      migrate  = { cpu = 256, memory = 1024 }
    }
    small = {
      webserver = { cpu = 512, memory = 1024 }
      daemon    = { cpu = 256, memory = 1024 }
      code      = { cpu = 512, memory = 1024 }
      run       = { cpu = 256, memory = 1024 }
      step      = { cpu = 1024, memory = 2048 }
      migrate   = { cpu = 256, memory = 1024 }
    }
    production = {
      webserver = { cpu = 1024, memory = 2048 }
      daemon    = { cpu = 512, memory = 2048 }
      code      = { cpu = 1024, memory = 2048 }
      run       = { cpu = 512, memory = 1024 }
      step      = { cpu = 1024, memory = 2048 }
      migrate   = { cpu = 512, memory = 1024 }
    }
  }
  task_size = local.task_sizes[var.size]

  account   = data.aws_caller_identity.this.account_id
  partition = data.aws_partition.this.partition

  together       = var.size == "minimal"
  own_vpc        = var.vpc_id == null
  private        = local.own_vpc && local.size.nat_gateways > 0
  public_ip      = coalesce(var.tasks_public_ip, local.own_vpc && !local.private)
  ui_login       = coalesce(var.ui_login, local.size.ui_login)
  balanced       = local.ui_login != "none"
  secrets_in     = coalesce(var.secrets_in, local.size.secrets_in)
  log_days       = coalesce(var.log_days, local.size.log_days)
  database_class = coalesce(var.database_class, local.size.database_class)
  database_gib   = coalesce(var.database_storage_gib, local.size.database_gib)
  flow_logs      = local.own_vpc && coalesce(var.flow_logs, local.size.flow_logs)
  gpu            = var.gpu_instance_type != null

  log_group = "/bindery/${var.project}"
  ports     = { database = 5432, ui = 3000, code = 4266, proxy = 8080 }
}

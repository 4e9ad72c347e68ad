# Postgres 17 with pgvector (an extension that RDS has; `bindery db migrate` installs it). Private, encrypted, TLS alone.
# The master's password is made, kept and rotated by RDS itself: neither Terraform nor its state ever sees it.

resource "aws_db_subnet_group" "this" {
  name       = var.project
  subnet_ids = local.database_subnets
}

resource "aws_db_parameter_group" "this" {
  name_prefix = "${var.project}-17-"
  family      = "postgres17"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  parameter {
    name  = "timezone"
    value = "UTC"
  }

  # Statements slower than this are in the log.
  parameter {
    name  = "log_min_duration_statement"
    value = "5000"
  }

  parameter {
    name  = "log_statement"
    value = "ddl"
  }

  lifecycle { create_before_destroy = true }
}

resource "aws_db_instance" "this" {
  identifier     = var.project
  engine         = "postgres"
  engine_version = "17"
  instance_class = local.database_class
  db_name        = "postgres"
  port           = local.ports.database

  username                    = "bindery_admin"
  manage_master_user_password = true

  storage_type          = "gp3"
  allocated_storage     = local.database_gib
  max_allocated_storage = local.database_gib * 5
  storage_encrypted     = true
  kms_key_id            = var.kms_key_arn

  db_subnet_group_name   = aws_db_subnet_group.this.name
  vpc_security_group_ids = [aws_security_group.database.id]
  publicly_accessible    = false
  multi_az               = local.size.database_zones > 1
  parameter_group_name   = aws_db_parameter_group.this.name
  ca_cert_identifier     = "rds-ca-rsa2048-g1"

  backup_retention_period    = local.size.backup_days
  backup_window              = "01:00-02:00"
  maintenance_window         = "sun:02:30-sun:03:30"
  copy_tags_to_snapshot      = true
  auto_minor_version_upgrade = true
  apply_immediately          = false

  performance_insights_enabled    = local.size.insights
  performance_insights_kms_key_id = local.size.insights ? var.kms_key_arn : null
  enabled_cloudwatch_logs_exports = ["postgresql", "upgrade"]

  deletion_protection       = var.database_protected
  skip_final_snapshot       = !var.database_protected
  final_snapshot_identifier = "${var.project}-last-${formatdate("YYYYMMDDhhmmss", timestamp())}"

  lifecycle {
    # The name of the last snapshot is the moment of the first apply: any name will do, as long as it is new.
    ignore_changes = [final_snapshot_identifier]

    precondition {
      condition     = local.own_vpc || length(var.database_subnet_ids) >= 2
      error_message = "With vpc_id, database_subnet_ids names two subnets in different zones."
    }

    precondition {
      condition     = local.own_vpc || length(var.task_subnet_ids) >= 1
      error_message = "With vpc_id, task_subnet_ids names the subnets of tasks."
    }
  }
}

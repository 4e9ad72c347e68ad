# The cluster, its capacity (Fargate, Spot, and GPUs where asked for), the log group, and the names of services.

resource "aws_cloudwatch_log_group" "this" {
  name              = local.log_group
  retention_in_days = local.log_days
  kms_key_id        = var.kms_key_arn
}

resource "aws_ecs_cluster" "this" {
  name = var.project

  setting {
    name  = "containerInsights"
    value = local.size.insights ? "enabled" : "disabled"
  }

  configuration {
    execute_command_configuration {
      kms_key_id = var.kms_key_arn
      logging    = "OVERRIDE"

      log_configuration {
        cloud_watch_encryption_enabled = var.kms_key_arn != null
        cloud_watch_log_group_name     = aws_cloudwatch_log_group.this.name
      }
    }
  }
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  cluster_name       = aws_ecs_cluster.this.name
  capacity_providers = concat(["FARGATE", "FARGATE_SPOT"], aws_ecs_capacity_provider.gpu[*].name)

  default_capacity_provider_strategy {
    capacity_provider = "FARGATE"
    weight            = 1
  }
}

# The webserver and the daemon find the code server by name; in size minimal they are beside it.
resource "aws_service_discovery_private_dns_namespace" "this" {
  count = local.together ? 0 : 1
  name  = "${var.project}.internal"
  vpc   = local.vpc_id
}

resource "aws_service_discovery_service" "code" {
  count = local.together ? 0 : 1
  name  = "code"

  dns_config {
    namespace_id = aws_service_discovery_private_dns_namespace.this[0].id

    dns_records {
      type = "A"
      ttl  = 10
    }
  }
}

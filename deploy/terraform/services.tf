# Services: webserver, daemon and code server, each its own, or all three in one task that sleeps (size minimal). They
# begin with no task, and keep what they run when a definition changes: `bindery deploy aws` rolls them, after the
# migrations. A release that doesn't start is taken back by ECS itself.

locals {
  services = local.together ? {
    platform = { containers = ["code", "webserver", "daemon"], least = 0, most = 100 }
    } : {
    # Two daemons at once would launch schedules twice, so the old one goes first.
    webserver = { containers = ["webserver"], least = 100, most = 200 }
    daemon    = { containers = ["daemon"], least = 0, most = 100 }
    code      = { containers = ["code"], least = 100, most = 200 }
  }

  containers_of = {
    for service, details in local.services : service => concat(
      [for name in details.containers : merge(
        local.service_containers[name],
        { name = local.together ? name : "main" },
        local.together && name != "code" ? { dependsOn = [{ containerName = "code", condition = "HEALTHY" }] } : {},
      )],
      contains(details.containers, "webserver") && local.ui_login == "basic" ? [local.proxy_container] : [],
      local.together ? [merge(
        local.hardened,
        {
          name             = "rest"
          image            = var.dagster_image
          essential        = true
          command          = local.commands.rest
          logConfiguration = local.logs.platform
          dependsOn        = [{ containerName = "code", condition = "HEALTHY" }]
        },
      )] : [],
    )
  }
}

resource "aws_ecs_task_definition" "service" {
  for_each                 = local.services
  family                   = "${var.project}-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = local.task_size[each.key].cpu
  memory                   = local.task_size[each.key].memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task["platform"].arn
  container_definitions    = jsonencode(local.containers_of[each.key])
  skip_destroy             = true
  tags                     = { "bindery.release" = var.release }

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  dynamic "volume" {
    for_each = toset(concat(
      keys(local.writable),
      flatten([
        for container in each.value.containers : [
          for mount in local.agent_mounts[local.together ? container : "main"] : mount.sourceVolume if local.shell_in_services
        ]
      ]),
    ))

    content {
      name = volume.key
    }
  }
}

resource "aws_ecs_service" "this" {
  for_each                           = local.services
  name                               = "${var.project}-${each.key}"
  cluster                            = aws_ecs_cluster.this.id
  task_definition                    = aws_ecs_task_definition.service[each.key].arn
  desired_count                      = 0
  deployment_minimum_healthy_percent = each.value.least
  deployment_maximum_percent         = each.value.most
  enable_ecs_managed_tags            = true
  propagate_tags                     = "SERVICE"
  # The tunnel to the UI (`bindery deploy aws ui`) goes through the same door as a shell.
  enable_execute_command            = local.shell_in_services
  health_check_grace_period_seconds = contains(each.value.containers, "webserver") && local.balanced ? 180 : null

  capacity_provider_strategy {
    capacity_provider = "FARGATE"
    weight            = 1
  }

  network_configuration {
    subnets          = local.task_subnets
    security_groups  = [aws_security_group.services.id]
    assign_public_ip = local.public_ip
  }

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  dynamic "service_registries" {
    for_each = each.key == "code" ? aws_service_discovery_service.code : []

    content {
      registry_arn = service_registries.value.arn
    }
  }

  dynamic "load_balancer" {
    for_each = contains(each.value.containers, "webserver") ? aws_lb_target_group.ui : []

    content {
      target_group_arn = load_balancer.value.arn
      container_name   = local.ui_login == "basic" ? "proxy" : (local.together ? "webserver" : "main")
      container_port   = local.ui_port
    }
  }

  lifecycle {
    ignore_changes = [desired_count, task_definition]
  }

  depends_on = [aws_ecs_cluster_capacity_providers.this, aws_lb_listener.https, aws_iam_role_policy.execution]
}

# Task definitions: the families that runs and steps are started from, the migration, and the services. A step that asks
# for another size overrides it; one that asks for another image gets a definition derived from `<project>-step`.

locals {
  workers = merge(
    {
      run      = { size = local.task_size.run, image = var.dagster_image, role = "run", command = ["bindery", "--version"], gpu = 0 }
      step     = { size = local.task_size.step, image = var.dagster_image, role = "step", command = ["bindery", "--version"], gpu = 0 }
      step-dbt = { size = local.task_size.step, image = var.dbt_image, role = "step", command = ["bindery", "--version"], gpu = 0 }
    },
    local.gpu ? {
      step-gpu = { size = { cpu = 4096, memory = 14336 }, image = var.dagster_image, role = "step", command = ["bindery", "--version"], gpu = 1 }
    } : {},
  )
}

resource "aws_ecs_task_definition" "worker" {
  for_each                 = local.workers
  family                   = "${var.project}-${each.key}"
  requires_compatibilities = [each.value.gpu > 0 ? "EC2" : "FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = each.value.size.cpu
  memory                   = each.value.size.memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task[each.value.role].arn
  # A run that goes on while a release is made starts its next step from the definition it knows.
  skip_destroy = true
  tags         = { "bindery.release" = var.release }

  container_definitions = jsonencode([merge(
    local.hardened,
    {
      name             = "main"
      image            = each.value.image
      essential        = true
      command          = each.value.command
      logConfiguration = local.logs[each.key]
      stopTimeout      = 120
      mountPoints      = concat(local.mounts, var.shell_in_tasks ? local.agent_mounts.main : [])
    },
    each.value.gpu > 0 ? { resourceRequirements = [{ type = "GPU", value = tostring(each.value.gpu) }] } : {},
  )])

  dynamic "runtime_platform" {
    for_each = each.value.gpu > 0 ? [] : [1]

    content {
      operating_system_family = "LINUX"
      cpu_architecture        = var.cpu_architecture
    }
  }

  dynamic "volume" {
    for_each = toset(concat(keys(local.writable), [for mount in local.agent_mounts.main : mount.sourceVolume if var.shell_in_tasks]))

    content {
      name = volume.key
    }
  }
}

# Makes databases, roles and tables as the master, whose login nobody else gets.
resource "aws_ecs_task_definition" "migrate" {
  family                   = "${var.project}-migrate"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = local.task_size.migrate.cpu
  memory                   = local.task_size.migrate.memory
  execution_role_arn       = aws_iam_role.execution_migrate.arn
  task_role_arn            = aws_iam_role.task["migrate"].arn
  skip_destroy             = true
  tags                     = { "bindery.release" = var.release }

  container_definitions = jsonencode([merge(
    local.hardened,
    {
      name             = "main"
      image            = var.dagster_image
      essential        = true
      command          = ["bindery", "db", "migrate"]
      logConfiguration = local.logs.migrate
      secrets = [
        { name = "PGUSER", valueFrom = "${aws_db_instance.this.master_user_secret[0].secret_arn}:username::" },
        { name = "PGPASSWORD", valueFrom = "${aws_db_instance.this.master_user_secret[0].secret_arn}:password::" },
      ]
      # The database of the URL is where the master connects first: the others don't exist yet.
      environment = [for entry in local.environment : entry.name == "BINDERY_DATABASE_URL" ? merge(entry, { value = replace(entry.value, "/bindery?", "/postgres?") }) : entry]
    },
  )])

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  dynamic "volume" {
    for_each = local.writable

    content {
      name = volume.key
    }
  }
}

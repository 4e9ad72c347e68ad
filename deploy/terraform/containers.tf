# What every container has in common: not root, a read-only file system, no capability, its environment, its secrets.

locals {
  code_host = local.together ? "127.0.0.1" : "code.${var.project}.internal"

  settings = merge(
    {
      BINDERY_ENVIRONMENT         = "ecs"
      BINDERY_PROJECT             = var.project
      BINDERY_CODE_VERSION        = var.release
      BINDERY_DATABASE_URL        = "postgresql://${aws_db_instance.this.address}:${local.ports.database}/bindery?sslmode=require"
      BINDERY_DAGSTER_URL         = "postgresql+psycopg2://bindery_dagster@${aws_db_instance.this.address}:${local.ports.database}/dagster?sslmode=require&application_name=dagster"
      BINDERY_LANDING_URL         = "s3://${aws_s3_bucket.this["landing"].id}/landing"
      BINDERY_LOGS_BUCKET         = aws_s3_bucket.this["logs"].id
      BINDERY_UPLOADS_QUEUE_URL   = aws_sqs_queue.uploads.url
      BINDERY_UPLOADS_BUCKET      = aws_s3_bucket.this["uploads"].id
      BINDERY_SECRETS_FROM        = local.secrets_from
      BINDERY_ECS_CLUSTER         = aws_ecs_cluster.this.name
      BINDERY_ECS_SUBNETS         = join(",", local.task_subnets)
      BINDERY_ECS_SECURITY_GROUPS = aws_security_group.tasks.id
      BINDERY_ECS_PUBLIC_IP       = tostring(local.public_ip)
      BINDERY_ECS_CAPACITY        = var.steps_capacity
      BINDERY_ECS_EXEC            = tostring(var.shell_in_tasks)
      BINDERY_DAGSTER_IMAGE       = var.dagster_image
      BINDERY_DBT_IMAGE           = var.dbt_image
      BINDERY_CODE_HOST           = local.code_host
      BINDERY_CODE_PORT           = tostring(local.ports.code)
      BINDERY_SOURCES             = "live"
      DAGSTER_HOME                = "/bindery/deploy/instance/ecs"
      DAGSTER_CURRENT_IMAGE       = var.dagster_image
      AWS_REGION                  = var.region
      AWS_DEFAULT_REGION          = var.region
    },
    local.gpu ? { BINDERY_ECS_GPU_CAPACITY_PROVIDER = aws_ecs_capacity_provider.gpu[0].name } : {},
    var.environment,
  )
  environment = [for name in sort(keys(local.settings)) : { name = name, value = local.settings[name] }]

  # Dagster's own storage has no password in its URL: libpq takes this one.
  dagster_password = [{ name = "PGPASSWORD", valueFrom = local.secret_arns["postgres_dagster_password"] }]

  # The images say with VOLUME that these belong to their user: an empty volume of Fargate is root's otherwise.
  writable = { tmp = "/tmp", home = "/home/bindery", data = "/data" }
  mounts   = [for name in sort(keys(local.writable)) : { sourceVolume = name, containerPath = local.writable[name], readOnly = false }]

  # Where ECS's agent for shells and tunnels writes: one each, for each container that somebody may look into.
  agent             = { agents = "/managed-agents", state = "/var/lib/amazon/ssm", log = "/var/log/amazon/ssm" }
  shell_in_services = !local.balanced || var.shell_in_tasks
  agent_mounts = {
    for container in ["main", "webserver", "daemon", "code"] : container => [
      for name in sort(keys(local.agent)) : { sourceVolume = "${container}-${name}", containerPath = local.agent[name], readOnly = false }
    ]
  }

  hardened = {
    user                   = "10001:10001"
    readonlyRootFilesystem = true
    privileged             = false
    linuxParameters        = { initProcessEnabled = true, capabilities = { drop = ["ALL"], add = [] } }
    mountPoints            = local.mounts
    environment            = local.environment
    secrets                = local.dagster_password
  }

  logs = {
    for family in ["run", "step", "step-dbt", "step-gpu", "migrate", "webserver", "daemon", "code", "platform"] : family => {
      logDriver = "awslogs"
      options = {
        awslogs-group         = local.log_group
        awslogs-region        = var.region
        awslogs-stream-prefix = "${var.project}-${family}"
        # A log service that doesn't answer stops no work; what the buffer can't hold is lost.
        mode            = "non-blocking"
        max-buffer-size = "4m"
      }
    }
  }

  # Asks the port alone: a probe that speaks gRPC costs a process with half of Dagster in it.
  answers = { for name, port in { code = local.ports.code, webserver = local.ports.ui } : name => {
    command     = ["CMD", "bash", "-c", "</dev/tcp/127.0.0.1/${port}"]
    interval    = 15
    timeout     = 5
    retries     = 4
    startPeriod = 120
  } }

  commands = {
    webserver = ["dagster-webserver", "-h", "0.0.0.0", "-p", tostring(local.ports.ui), "-w", "/bindery/workspace.yaml"]
    daemon    = ["dagster-daemon", "run", "-w", "/bindery/workspace.yaml"]
    code = [
      "python", "-m", "dagster_project.execution.docker.code_server", "--host=0.0.0.0", "--port=${local.ports.code}",
      "--module-name=dagster_project.definitions", "--location-name=bindery",
    ]
    rest = ["bindery", "deploy", "aws", "rest", "--after", var.sleep_after]
  }

  service_containers = {
    for name in ["webserver", "daemon", "code"] : name => merge(
      local.hardened,
      {
        image            = var.dagster_image
        essential        = true
        command          = local.commands[name]
        logConfiguration = local.logs[local.together ? "platform" : name]
        stopTimeout      = 60
        mountPoints      = concat(local.mounts, local.shell_in_services ? local.agent_mounts[local.together ? name : "main"] : [])
      },
      contains(keys(local.answers), name) ? { healthCheck = local.answers[name] } : {},
      name == "code" ? { portMappings = [{ containerPort = local.ports.code, protocol = "tcp" }] } : {},
      name == "webserver" ? { portMappings = [{ containerPort = local.ports.ui, protocol = "tcp" }] } : {},
    )
  }

  # Asks for the login in front of the webserver, in the webserver's own task.
  proxy_container = merge(
    { for key, value in local.hardened : key => value if !contains(["mountPoints", "environment", "secrets", "linuxParameters"], key) },
    {
      name             = "proxy"
      image            = var.proxy_image
      essential        = true
      entryPoint       = ["sh", "-c"]
      command          = ["printf '%s' \"$CADDYFILE\" | caddy run --adapter caddyfile --config -"]
      environment      = [{ name = "CADDYFILE", value = local.caddyfile }]
      secrets          = local.ui_login == "basic" ? [{ name = "UI_USERS", valueFrom = local.secret_arns["ui_users"] }] : []
      portMappings     = [{ containerPort = local.ports.proxy, protocol = "tcp" }]
      logConfiguration = local.logs[local.together ? "platform" : "webserver"]
      linuxParameters  = { initProcessEnabled = true }
      mountPoints      = []
    },
  )
  caddyfile = <<-EOT
    {
      admin off
      auto_https off
    }
    :${local.ports.proxy} {
      handle /healthz {
        respond "ok"
      }
      handle {
        basic_auth {
          {$UI_USERS}
        }
        header {
          -Server
          Strict-Transport-Security "max-age=31536000"
          X-Content-Type-Options nosniff
          X-Frame-Options DENY
          Referrer-Policy same-origin
        }
        reverse_proxy 127.0.0.1:${local.ports.ui}
      }
    }
  EOT
}

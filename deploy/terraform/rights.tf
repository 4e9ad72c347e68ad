# The rights of each kind of task: groups of actions, and who has which.

locals {
  rights = {
    # Webserver, daemon, code server (where sensors run) and, in size minimal, what puts the platform to sleep.
    platform = concat(
      ["secrets", "logs_bucket", "landing", "uploads", "output", "queue", "launch_runs", "watch_tasks", "diagnosis", "doctor"],
      local.together ? ["rest"] : [],
      local.shell_in_services ? ["shell"] : [],
    )
    # A run starts its steps; steps of small jobs work in the run's own process.
    run = concat(
      ["secrets", "logs_bucket", "landing", "uploads", "output", "launch_steps", "watch_tasks", "diagnosis"],
      var.shell_in_tasks ? ["shell"] : [],
    )
    step = concat(
      ["secrets", "logs_bucket", "landing", "uploads", "output"],
      var.shell_in_tasks ? ["shell"] : [],
    )
    migrate = ["own_secrets"]
  }

  ecs            = "arn:${local.partition}:ecs:${var.region}:${local.account}"
  run_families   = ["${local.ecs}:task-definition/${var.project}-run:*"]
  step_families  = ["${local.ecs}:task-definition/${var.project}-step:*", "${local.ecs}:task-definition/${var.project}-step-*:*"]
  our_tasks      = "${local.ecs}:task/${var.project}/*"
  read_secret    = local.secrets_in == "ssm" ? ["ssm:GetParameter"] : ["secretsmanager:GetSecretValue"] # pragma: allowlist secret
  passed_to_runs = [aws_iam_role.execution.arn, aws_iam_role.task["run"].arn]
}

data "aws_iam_policy_document" "task" {
  for_each = local.rights

  # Secrets: the roles' passwords and what sources need; neither the owner of the tables nor the UI's logins.
  dynamic "statement" {
    for_each = contains(each.value, "secrets") ? [1] : []

    content {
      sid       = "Secrets"
      actions   = local.read_secret
      resources = [local.secrets_of_all]
    }
  }

  dynamic "statement" {
    for_each = contains(each.value, "secrets") ? [1] : []

    content {
      sid       = "NotTheOwners"
      effect    = "Deny"
      actions   = local.read_secret
      resources = local.secrets_of_nobody
    }
  }

  dynamic "statement" {
    for_each = contains(each.value, "own_secrets") ? [1] : []

    content {
      sid       = "RolePasswords"
      actions   = local.read_secret
      resources = concat([for name in local.role_secrets : local.secret_arns[name]], local.secrets_in == "ssm" ? [local.secrets_of_all] : [])
    }
  }

  # Buckets
  dynamic "statement" {
    for_each = contains(each.value, "logs_bucket") ? [1] : []

    content {
      sid       = "RunLogs"
      actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
      resources = ["${aws_s3_bucket.this["logs"].arn}/*"]
    }
  }

  dynamic "statement" {
    for_each = contains(each.value, "landing") ? [1] : []

    content {
      sid       = "Landing"
      actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
      resources = ["${aws_s3_bucket.this["landing"].arn}/*"]
    }
  }

  # Uploads are read, in the version that was announced; nobody here writes or removes them.
  dynamic "statement" {
    for_each = contains(each.value, "uploads") ? [1] : []

    content {
      sid       = "Uploads"
      actions   = ["s3:GetObject", "s3:GetObjectVersion"]
      resources = ["${aws_s3_bucket.this["uploads"].arn}/*"]
    }
  }

  dynamic "statement" {
    for_each = contains(each.value, "output") ? [1] : []

    content {
      sid       = "Output"
      actions   = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
      resources = ["${aws_s3_bucket.this["output"].arn}/*"]
    }
  }

  dynamic "statement" {
    for_each = contains(each.value, "landing") ? [1] : []

    content {
      sid       = "Listings"
      actions   = ["s3:ListBucket"]
      resources = [for bucket in aws_s3_bucket.this : bucket.arn]
    }
  }

  # Queue
  dynamic "statement" {
    for_each = contains(each.value, "queue") ? [1] : []

    content {
      sid       = "Queue"
      actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:SendMessage"]
      resources = [aws_sqs_queue.uploads.arn, aws_sqs_queue.dead.arn]
    }
  }

  # Tasks
  dynamic "statement" {
    for_each = contains(each.value, "launch_runs") || contains(each.value, "launch_steps") ? [1] : []

    content {
      sid       = "Start"
      actions   = ["ecs:RunTask"]
      resources = contains(each.value, "launch_runs") ? concat(local.run_families, local.step_families) : local.step_families

      condition {
        test     = "ArnEquals"
        variable = "ecs:cluster"
        values   = [aws_ecs_cluster.this.arn]
      }
    }
  }

  dynamic "statement" {
    for_each = contains(each.value, "watch_tasks") ? [1] : []

    content {
      sid       = "Watch"
      actions   = ["ecs:DescribeTasks", "ecs:StopTask"]
      resources = [local.our_tasks]
    }
  }

  dynamic "statement" {
    for_each = contains(each.value, "watch_tasks") ? [1] : []

    content {
      sid       = "List"
      actions   = ["ecs:ListTasks"]
      resources = ["*"]

      condition {
        test     = "ArnEquals"
        variable = "ecs:cluster"
        values   = [aws_ecs_cluster.this.arn]
      }
    }
  }

  # A definition is described before it is derived from; AWS knows no narrower resource.
  dynamic "statement" {
    for_each = contains(each.value, "watch_tasks") ? [1] : []

    content {
      sid       = "LookAtDefinitions"
      actions   = ["ecs:DescribeTaskDefinition"]
      resources = ["*"]
    }
  }

  # A step in another image has a definition of its own, derived from <project>-step.
  dynamic "statement" {
    for_each = contains(each.value, "watch_tasks") ? [1] : []

    content {
      sid       = "Derive"
      actions   = ["ecs:RegisterTaskDefinition"]
      resources = contains(each.value, "launch_runs") ? concat(local.run_families, local.step_families) : local.step_families
    }
  }

  dynamic "statement" {
    for_each = contains(each.value, "watch_tasks") ? [1] : []

    content {
      sid       = "TagWhatIsMade"
      actions   = ["ecs:TagResource"]
      resources = concat([local.our_tasks], local.run_families, local.step_families)

      condition {
        test     = "StringEquals"
        variable = "ecs:CreateAction"
        values   = ["RunTask", "RegisterTaskDefinition"]
      }
    }
  }

  dynamic "statement" {
    for_each = contains(each.value, "watch_tasks") ? [1] : []

    content {
      sid       = "HandOver"
      actions   = ["iam:PassRole"]
      resources = concat(contains(each.value, "launch_runs") ? local.passed_to_runs : [aws_iam_role.execution.arn], [aws_iam_role.task["step"].arn])

      condition {
        test     = "StringEquals"
        variable = "iam:PassedToService"
        values   = ["ecs-tasks.amazonaws.com"]
      }
    }
  }

  # The last lines of a task that died.
  dynamic "statement" {
    for_each = contains(each.value, "diagnosis") ? [1] : []

    content {
      sid       = "Diagnosis"
      actions   = ["logs:GetLogEvents"]
      resources = ["${aws_cloudwatch_log_group.this.arn}:*"]
    }
  }

  # `bindery doctor aws`, which has to be asked inside: from outside nobody reaches the database.
  dynamic "statement" {
    for_each = contains(each.value, "doctor") ? [1] : []

    content {
      sid       = "DoctorLooksAround"
      actions   = ["ec2:DescribeRouteTables", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcEndpoints", "logs:DescribeLogGroups"]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = contains(each.value, "doctor") ? [1] : []

    content {
      sid     = "DoctorLooksAtOurs"
      actions = ["ecr:DescribeImages", "ecs:DescribeClusters", "iam:GetRole", "s3:GetBucketNotification", "s3:GetBucketPublicAccessBlock"]
      resources = concat(
        [aws_ecs_cluster.this.arn, "arn:${local.partition}:iam::${local.account}:role/${var.project}-*"],
        [for repository in aws_ecr_repository.this : repository.arn],
        [for bucket in aws_s3_bucket.this : bucket.arn],
      )
    }
  }

  # Size minimal: going to sleep.
  dynamic "statement" {
    for_each = contains(each.value, "rest") ? [1] : []

    content {
      sid       = "Rest"
      actions   = ["ecs:DescribeServices", "ecs:UpdateService"]
      resources = [local.service_arn]
    }
  }

  # A shell in a task, and the tunnel to the UI.
  dynamic "statement" {
    for_each = contains(each.value, "shell") ? [1] : []

    content {
      sid       = "Tunnel"
      actions   = ["ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel", "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel"]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = contains(each.value, "shell") ? [1] : []

    content {
      sid       = "ShellLog"
      actions   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
      resources = ["${aws_cloudwatch_log_group.this.arn}:*"]
    }
  }

  dynamic "statement" {
    for_each = contains(each.value, "shell") ? [1] : []

    content {
      sid       = "ShellLogGroups"
      actions   = ["logs:DescribeLogGroups"]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = var.kms_key_arn == null ? [] : [1]

    content {
      sid       = "Key"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [var.kms_key_arn]
    }
  }
}

# Who may do what. Each kind of task has a role of its own with what its code calls: tests/aws/test_terraform_rights.py
# knows where each action is called from. No action has a wildcard, and where a resource has to be `*`, AWS knows no
# narrower one for that action.

data "aws_iam_policy_document" "task_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    # Somebody else's tasks can't be made to take these roles.
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:ecs:${var.region}:${local.account}:*"]
    }
  }
}

# What ECS itself does for a task before it starts: pull, write logs, hand in secrets.

resource "aws_iam_role" "execution" {
  name               = "${var.project}-execution"
  assume_role_policy = data.aws_iam_policy_document.task_trust.json
}

resource "aws_iam_role" "execution_migrate" {
  name               = "${var.project}-execution-migrate"
  assume_role_policy = data.aws_iam_policy_document.task_trust.json
}

data "aws_iam_policy_document" "execution" {
  for_each = {
    tasks   = [for name in ["postgres_dagster_password", "ui_users"] : local.secret_arns[name] if contains(local.secret_names, name)]
    migrate = []
  }

  statement {
    sid       = "Registry"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "Images"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [for repository in aws_ecr_repository.this : repository.arn]
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this.arn}:*"]
  }

  dynamic "statement" {
    for_each = length(each.value) > 0 ? [1] : []

    content {
      sid       = "Secrets"
      actions   = local.secrets_in == "ssm" ? ["ssm:GetParameters"] : ["secretsmanager:GetSecretValue"] # pragma: allowlist secret
      resources = each.value
    }
  }

  # The master's login, for the migration alone.
  dynamic "statement" {
    for_each = each.key == "migrate" ? [1] : []

    content {
      sid       = "Master"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [aws_db_instance.this.master_user_secret[0].secret_arn]
    }
  }

  dynamic "statement" {
    for_each = var.kms_key_arn == null ? [] : [1]

    content {
      sid       = "Key"
      actions   = ["kms:Decrypt"]
      resources = [var.kms_key_arn]
    }
  }
}

resource "aws_iam_role_policy" "execution" {
  for_each = { tasks = aws_iam_role.execution.id, migrate = aws_iam_role.execution_migrate.id }
  name     = "start"
  role     = each.value
  policy   = data.aws_iam_policy_document.execution[each.key].json
}

# What the code in a task may do.

resource "aws_iam_role" "task" {
  for_each           = local.rights
  name               = "${var.project}-task-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.task_trust.json
}

resource "aws_iam_role_policy" "task" {
  for_each = local.rights
  name     = "work"
  role     = aws_iam_role.task[each.key].id
  policy   = data.aws_iam_policy_document.task[each.key].json
}

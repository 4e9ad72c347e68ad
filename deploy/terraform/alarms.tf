# What somebody must be told of by AWS, because the platform may be too broken, or asleep, to tell it itself. Late data,
# failed runs and refused rows are told by the platform's own alerts (docs/operating.md).

resource "aws_sns_topic" "alarms" {
  name              = "${var.project}-alarms"
  kms_master_key_id = var.kms_key_arn
}

resource "aws_sns_topic_subscription" "alarms" {
  count     = var.alarm_email == null ? 0 : 1
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

data "aws_iam_policy_document" "alarms" {
  statement {
    sid       = "Tell"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alarms.arn]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_sns_topic_policy" "alarms" {
  arn    = aws_sns_topic.alarms.arn
  policy = data.aws_iam_policy_document.alarms.json
}

locals {
  alarms = {
    uploads-dead = {
      said      = "Uploads that can't be handled wait in the dead letters: bindery deploy aws run -- bindery inbox redrive"
      namespace = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", dimensions = { QueueName = aws_sqs_queue.dead.name }
      statistic = "Maximum", period = 300, times = 1, over = true, threshold = 0, missing = "notBreaching"
    }
    uploads-late = {
      said      = "An upload has waited for two hours: is the daemon awake? bindery deploy aws status"
      namespace = "AWS/SQS", metric = "ApproximateAgeOfOldestMessage", dimensions = { QueueName = aws_sqs_queue.uploads.name }
      statistic = "Maximum", period = 300, times = 3, over = true, threshold = 7200, missing = "notBreaching"
    }
    tasks-failing = {
      said      = "Five tasks ended with an error within a quarter of an hour: bindery deploy aws status"
      namespace = "AWS/Events", metric = "MatchedEvents", dimensions = { RuleName = aws_cloudwatch_event_rule.failed_tasks.name }
      statistic = "Sum", period = 900, times = 1, over = true, threshold = 4, missing = "notBreaching"
    }
    database-storage = {
      said      = "The database has little room left, although it grows by itself: docs/runbooks"
      namespace = "AWS/RDS", metric = "FreeStorageSpace", dimensions = { DBInstanceIdentifier = aws_db_instance.this.identifier }
      statistic = "Minimum", period = 300, times = 3, over = false, threshold = local.database_gib * 107374182, missing = "missing"
    }
    database-cpu = {
      said      = "The database has been busy for half an hour: a larger database_class?"
      namespace = "AWS/RDS", metric = "CPUUtilization", dimensions = { DBInstanceIdentifier = aws_db_instance.this.identifier }
      statistic = "Average", period = 300, times = 6, over = true, threshold = 85, missing = "missing"
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each            = local.alarms
  alarm_name          = "${var.project}-${each.key}"
  alarm_description   = each.value.said
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  period              = each.value.period
  evaluation_periods  = each.value.times
  comparison_operator = each.value.over ? "GreaterThanThreshold" : "LessThanThreshold"
  threshold           = each.value.threshold
  treat_missing_data  = each.value.missing
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}

# Counted, and kept beside the other logs: why a task ended is known to ECS for an hour alone.
resource "aws_cloudwatch_event_rule" "failed_tasks" {
  name        = "${var.project}-failed-tasks"
  description = "Tasks of ${var.project} that ended with an error"

  event_pattern = jsonencode({
    source      = ["aws.ecs"]
    detail-type = ["ECS Task State Change"]
    detail = {
      clusterArn = [aws_ecs_cluster.this.arn]
      lastStatus = ["STOPPED"]
      containers = { exitCode = [{ "anything-but" = [0, 143] }] }
    }
  })
}

resource "aws_cloudwatch_log_group" "failed_tasks" {
  # EventBridge may only write to groups of this prefix.
  name              = "/aws/events/${var.project}/failed-tasks"
  retention_in_days = local.log_days
  kms_key_id        = var.kms_key_arn
}

resource "aws_cloudwatch_event_target" "failed_tasks" {
  rule = aws_cloudwatch_event_rule.failed_tasks.name
  arn  = aws_cloudwatch_log_group.failed_tasks.arn
}

data "aws_iam_policy_document" "failed_tasks" {
  statement {
    sid       = "EventsAreKept"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.failed_tasks.arn}:*"]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com", "delivery.logs.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_cloudwatch_event_rule.failed_tasks.arn]
    }
  }
}

resource "aws_cloudwatch_log_resource_policy" "failed_tasks" {
  policy_name     = "${var.project}-failed-tasks"
  policy_document = data.aws_iam_policy_document.failed_tasks.json
}

# Of the whole account: the tag `bindery.project` counts in a budget only after somebody made it a cost allocation tag.
resource "aws_budgets_budget" "this" {
  count        = var.monthly_budget_usd > 0 ? 1 : 0
  name         = "${var.project}-month"
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_amount = tostring(var.monthly_budget_usd)
  limit_unit   = "USD"

  dynamic "notification" {
    for_each = { ACTUAL = 80, FORECASTED = 100 }

    content {
      notification_type         = notification.key
      comparison_operator       = "GREATER_THAN"
      threshold                 = notification.value
      threshold_type            = "PERCENTAGE"
      subscriber_sns_topic_arns = [aws_sns_topic.alarms.arn]
    }
  }

  depends_on = [aws_sns_topic_policy.alarms]
}

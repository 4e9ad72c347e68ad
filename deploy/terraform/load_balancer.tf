# The way to the UI: HTTPS alone, and a login before anything is said (of your identity provider, or Caddy's). Dagster
# has no logins of its own.

locals {
  ui_port = local.ui_login == "basic" ? local.ports.proxy : local.ports.ui
}

resource "aws_lb" "ui" {
  count                      = local.balanced ? 1 : 0
  name                       = "${var.project}-ui"
  load_balancer_type         = "application"
  internal                   = false
  subnets                    = local.public_subnets
  security_groups            = [aws_security_group.load_balancer[0].id]
  drop_invalid_header_fields = true
  enable_deletion_protection = var.size == "production" && !var.delete_data
  # The UI keeps a connection open for what it is told.
  idle_timeout = 300

  access_logs {
    bucket  = aws_s3_bucket.this["logs"].id
    prefix  = "load-balancer"
    enabled = true
  }

  lifecycle {
    precondition {
      condition     = var.certificate_arn != null
      error_message = "ui_login = ${local.ui_login} needs certificate_arn: a certificate (ACM, ${var.region}) of the UI's host name. Without one: ui_login = \"none\"."
    }

    precondition {
      condition     = local.ui_login != "oidc" || (var.oidc != null && var.oidc_client_secret != null)
      error_message = "ui_login = oidc needs oidc and oidc_client_secret."
    }

    precondition {
      condition     = local.own_vpc || length(var.public_subnet_ids) >= 2
      error_message = "With vpc_id, public_subnet_ids names two public subnets in different zones."
    }
  }

  depends_on = [aws_s3_bucket_policy.this]
}

resource "aws_lb_target_group" "ui" {
  count                = local.balanced ? 1 : 0
  name                 = "${var.project}-ui-${local.ui_port}"
  vpc_id               = local.vpc_id
  target_type          = "ip"
  protocol             = "HTTP"
  port                 = local.ui_port
  deregistration_delay = 30

  health_check {
    path                = local.ui_login == "basic" ? "/healthz" : "/server_info"
    interval            = 15
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 4
    matcher             = "200"
  }

  lifecycle { create_before_destroy = true }
}

resource "aws_lb_listener" "https" {
  count             = local.balanced ? 1 : 0
  load_balancer_arn = aws_lb.ui[0].arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.certificate_arn

  dynamic "default_action" {
    for_each = local.ui_login == "oidc" ? [var.oidc] : []

    content {
      type  = "authenticate-oidc"
      order = 1

      authenticate_oidc {
        issuer                     = default_action.value.issuer
        authorization_endpoint     = default_action.value.authorization_endpoint
        token_endpoint             = default_action.value.token_endpoint
        user_info_endpoint         = default_action.value.user_info_endpoint
        client_id                  = default_action.value.client_id
        client_secret              = var.oidc_client_secret
        scope                      = default_action.value.scope
        session_timeout            = 43200
        on_unauthenticated_request = "authenticate"
      }
    }
  }

  default_action {
    type             = "forward"
    order            = 2
    target_group_arn = aws_lb_target_group.ui[0].arn
  }
}

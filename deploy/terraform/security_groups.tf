# Who may speak to whom. Rules are resources of their own, so that two groups may name each other.

resource "aws_security_group" "services" {
  name_prefix = "${var.project}-services-"
  description = "Webserver, daemon and code server"
  vpc_id      = local.vpc_id
  tags        = { Name = "${var.project}-services" }

  lifecycle { create_before_destroy = true }
}

resource "aws_security_group" "tasks" {
  name_prefix = "${var.project}-tasks-"
  description = "Runs, steps and migrations: nothing may come in"
  vpc_id      = local.vpc_id
  tags        = { Name = "${var.project}-tasks" }

  lifecycle { create_before_destroy = true }
}

resource "aws_security_group" "database" {
  name_prefix = "${var.project}-database-"
  description = "Postgres: the platform alone may come in, and nothing goes out"
  vpc_id      = local.vpc_id
  tags        = { Name = "${var.project}-database" }

  lifecycle { create_before_destroy = true }
}

resource "aws_security_group" "load_balancer" {
  count       = local.balanced ? 1 : 0
  name_prefix = "${var.project}-lb-"
  description = "Load balancer in front of the UI"
  vpc_id      = local.vpc_id
  tags        = { Name = "${var.project}-lb" }

  lifecycle { create_before_destroy = true }
}

# Out: to AWS, to registries, and to whatever sources there are, whose addresses nobody knows beforehand.
resource "aws_vpc_security_group_egress_rule" "out" {
  for_each          = { services = aws_security_group.services.id, tasks = aws_security_group.tasks.id }
  security_group_id = each.value
  description       = "AWS, sources and the database"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_ingress_rule" "database" {
  for_each                     = { services = aws_security_group.services.id, tasks = aws_security_group.tasks.id }
  security_group_id            = aws_security_group.database.id
  description                  = "Postgres from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = local.ports.database
  to_port                      = local.ports.database
  referenced_security_group_id = each.value
}

resource "aws_vpc_security_group_ingress_rule" "code" {
  count                        = local.together ? 0 : 1
  security_group_id            = aws_security_group.services.id
  description                  = "Code server, from webserver and daemon"
  ip_protocol                  = "tcp"
  from_port                    = local.ports.code
  to_port                      = local.ports.code
  referenced_security_group_id = aws_security_group.services.id
}

resource "aws_vpc_security_group_ingress_rule" "ui" {
  count                        = local.balanced ? 1 : 0
  security_group_id            = aws_security_group.services.id
  description                  = "UI, from the load balancer alone"
  ip_protocol                  = "tcp"
  from_port                    = local.ui_port
  to_port                      = local.ui_port
  referenced_security_group_id = aws_security_group.load_balancer[0].id
}

resource "aws_vpc_security_group_ingress_rule" "load_balancer" {
  for_each          = local.balanced ? toset(var.ui_allowed_cidrs) : []
  security_group_id = aws_security_group.load_balancer[0].id
  description       = "HTTPS"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = each.value
}

resource "aws_vpc_security_group_egress_rule" "load_balancer" {
  count                        = local.balanced ? 1 : 0
  security_group_id            = aws_security_group.load_balancer[0].id
  description                  = "UI"
  ip_protocol                  = "tcp"
  from_port                    = local.ui_port
  to_port                      = local.ui_port
  referenced_security_group_id = aws_security_group.services.id
}

# An identity provider is asked by the load balancer itself.
resource "aws_vpc_security_group_egress_rule" "identity" {
  count             = local.ui_login == "oidc" ? 1 : 0
  security_group_id = aws_security_group.load_balancer[0].id
  description       = "Identity provider"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}

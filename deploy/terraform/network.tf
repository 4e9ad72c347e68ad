# The network: one that is made, or one that there is (vpc_id). Tasks are in public subnets with addresses of their own
# where there is no NAT gateway: nothing may come in, and a NAT gateway costs more than everything else of a small
# platform. The database is in subnets from which nothing leads outside.

locals {
  zones = slice(data.aws_availability_zones.this.names, 0, local.size.zones)

  vpc_id           = local.own_vpc ? aws_vpc.this[0].id : var.vpc_id
  public_subnets   = local.own_vpc ? [for zone in local.zones : aws_subnet.public[zone].id] : var.public_subnet_ids
  task_subnets     = local.private ? [for zone in local.zones : aws_subnet.private[zone].id] : (local.own_vpc ? local.public_subnets : var.task_subnet_ids)
  database_subnets = local.own_vpc ? [for zone in local.zones : aws_subnet.database[zone].id] : var.database_subnet_ids
}

resource "aws_vpc" "this" {
  count                = local.own_vpc ? 1 : 0
  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = var.project }
}

# The one that a VPC comes with lets everything inside it speak; nothing uses it, and now it allows nothing.
resource "aws_default_security_group" "this" {
  count  = local.own_vpc ? 1 : 0
  vpc_id = aws_vpc.this[0].id
  tags   = { Name = "${var.project}-default-closed" }
}

resource "aws_internet_gateway" "this" {
  count  = local.own_vpc ? 1 : 0
  vpc_id = aws_vpc.this[0].id
  tags   = { Name = var.project }
}

resource "aws_subnet" "public" {
  for_each          = local.own_vpc ? toset(local.zones) : []
  vpc_id            = aws_vpc.this[0].id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, index(local.zones, each.key))
  # A task asks for its address itself; nothing else that is put here gets one by accident.
  map_public_ip_on_launch = false
  tags                    = { Name = "${var.project}-public-${each.key}" }
}

resource "aws_subnet" "private" {
  for_each          = local.private ? toset(local.zones) : []
  vpc_id            = aws_vpc.this[0].id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, 4 + index(local.zones, each.key))
  tags              = { Name = "${var.project}-private-${each.key}" }
}

resource "aws_subnet" "database" {
  for_each          = local.own_vpc ? toset(local.zones) : []
  vpc_id            = aws_vpc.this[0].id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, 8 + index(local.zones, each.key))
  tags              = { Name = "${var.project}-database-${each.key}" }
}

resource "aws_route_table" "public" {
  count  = local.own_vpc ? 1 : 0
  vpc_id = aws_vpc.this[0].id
  tags   = { Name = "${var.project}-public" }
}

resource "aws_route" "internet" {
  count                  = local.own_vpc ? 1 : 0
  route_table_id         = aws_route_table.public[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this[0].id
}

resource "aws_route_table_association" "public" {
  for_each       = aws_subnet.public
  subnet_id      = each.value.id
  route_table_id = aws_route_table.public[0].id
}

# One gateway in each zone: a zone that is lost takes no other one's way out with it.
resource "aws_eip" "nat" {
  for_each = aws_subnet.private
  domain   = "vpc"
  tags     = { Name = "${var.project}-nat-${each.key}" }
}

resource "aws_nat_gateway" "this" {
  for_each      = aws_subnet.private
  allocation_id = aws_eip.nat[each.key].id
  subnet_id     = aws_subnet.public[each.key].id
  tags          = { Name = "${var.project}-${each.key}" }
  depends_on    = [aws_internet_gateway.this]
}

resource "aws_route_table" "private" {
  for_each = aws_subnet.private
  vpc_id   = aws_vpc.this[0].id
  tags     = { Name = "${var.project}-private-${each.key}" }
}

resource "aws_route" "nat" {
  for_each               = aws_subnet.private
  route_table_id         = aws_route_table.private[each.key].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[each.key].id
}

resource "aws_route_table_association" "private" {
  for_each       = aws_subnet.private
  subnet_id      = each.value.id
  route_table_id = aws_route_table.private[each.key].id
}

resource "aws_route_table" "database" {
  count  = local.own_vpc ? 1 : 0
  vpc_id = aws_vpc.this[0].id
  tags   = { Name = "${var.project}-database" }
}

resource "aws_route_table_association" "database" {
  for_each       = aws_subnet.database
  subnet_id      = each.value.id
  route_table_id = aws_route_table.database[0].id
}

# Bytes to and from S3 (landing, uploads, layers of images) take neither the NAT gateway nor the internet. It is free.
resource "aws_vpc_endpoint" "s3" {
  count             = local.own_vpc ? 1 : 0
  vpc_id            = aws_vpc.this[0].id
  service_name      = "com.amazonaws.${var.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = concat(aws_route_table.public[*].id, [for table in aws_route_table.private : table.id])
  tags              = { Name = "${var.project}-s3" }
}

resource "aws_flow_log" "this" {
  count                = local.flow_logs ? 1 : 0
  vpc_id               = aws_vpc.this[0].id
  traffic_type         = "REJECT"
  log_destination_type = "s3"
  log_destination      = aws_s3_bucket.this["logs"].arn
  tags                 = { Name = var.project }
}

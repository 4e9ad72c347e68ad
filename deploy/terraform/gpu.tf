# GPUs: Fargate has none. A group of EC2 instances that has none either, until a step asks for one.

data "aws_ssm_parameter" "gpu_image" {
  count = local.gpu ? 1 : 0
  name  = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"
}

resource "aws_launch_template" "gpu" {
  count                  = local.gpu ? 1 : 0
  name_prefix            = "${var.project}-gpu-"
  image_id               = data.aws_ssm_parameter.gpu_image[0].value
  instance_type          = var.gpu_instance_type
  update_default_version = true

  iam_instance_profile {
    arn = aws_iam_instance_profile.gpu[0].arn
  }

  # Credentials of the instance are for its agent: a token is needed, and containers are too far away to get one.
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  network_interfaces {
    associate_public_ip_address = local.public_ip
    security_groups             = [aws_security_group.tasks.id]
    delete_on_termination       = true
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_size = 60
      volume_type = "gp3"
      encrypted   = true
      kms_key_id  = var.kms_key_arn
    }
  }

  user_data = base64encode(<<-EOT
    #!/bin/sh
    cat >>/etc/ecs/ecs.config <<EOF
    ECS_CLUSTER=${var.project}
    ECS_ENABLE_GPU_SUPPORT=true
    ECS_ENABLE_TASK_IAM_ROLE=true
    ECS_AWSVPC_BLOCK_IMDS=true
    EOF
  EOT
  )

  tag_specifications {
    resource_type = "instance"
    tags          = merge({ Name = "${var.project}-gpu", "bindery.project" = var.project }, var.tags)
  }
}

resource "aws_autoscaling_group" "gpu" {
  count                 = local.gpu ? 1 : 0
  name_prefix           = "${var.project}-gpu-"
  min_size              = 0
  max_size              = var.gpu_most_instances
  vpc_zone_identifier   = local.task_subnets
  protect_from_scale_in = true

  launch_template {
    id      = aws_launch_template.gpu[0].id
    version = aws_launch_template.gpu[0].latest_version
  }

  tag {
    key                 = "AmazonECSManaged"
    value               = "true"
    propagate_at_launch = true
  }

  lifecycle {
    ignore_changes = [desired_capacity]
  }
}

resource "aws_ecs_capacity_provider" "gpu" {
  count = local.gpu ? 1 : 0
  name  = "${var.project}-gpu"

  auto_scaling_group_provider {
    auto_scaling_group_arn         = aws_autoscaling_group.gpu[0].arn
    managed_termination_protection = "ENABLED"

    managed_scaling {
      status                    = "ENABLED"
      target_capacity           = 100
      minimum_scaling_step_size = 1
      maximum_scaling_step_size = 1
    }
  }
}

data "aws_iam_policy_document" "gpu_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "gpu" {
  count              = local.gpu ? 1 : 0
  name               = "${var.project}-gpu-instance"
  assume_role_policy = data.aws_iam_policy_document.gpu_trust.json
}

# What the ECS agent on an instance needs, as AWS keeps it.
resource "aws_iam_role_policy_attachment" "gpu" {
  count      = local.gpu ? 1 : 0
  role       = aws_iam_role.gpu[0].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"
}

resource "aws_iam_instance_profile" "gpu" {
  count = local.gpu ? 1 : 0
  name  = "${var.project}-gpu-instance"
  role  = aws_iam_role.gpu[0].name
}

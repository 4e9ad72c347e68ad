# What `bindery deploy aws` reads, and what people look for. No secret is among them.

output "project" {
  description = "Name of the platform."
  value       = var.project
}

output "region" {
  description = "Where it is."
  value       = var.region
}

output "size" {
  description = "How large it is."
  value       = var.size
}

output "cluster" {
  description = "ECS cluster."
  value       = aws_ecs_cluster.this.name
}

output "services" {
  description = "Service -> the newest definition of its task and how many tasks it has when awake."
  value = {
    for service in keys(local.services) : aws_ecs_service.this[service].name => {
      task_definition = aws_ecs_task_definition.service[service].arn
      tasks           = 1
    }
  }
}

output "migrate" {
  description = "Definition of the migration's task, and the network it runs in."
  value = {
    task_definition = aws_ecs_task_definition.migrate.arn
    subnets         = local.task_subnets
    security_groups = [aws_security_group.tasks.id]
    public_ip       = local.public_ip
  }
}

output "repositories" {
  description = "Image -> its repository."
  value       = { for name, repository in aws_ecr_repository.this : name => repository.repository_url }
}

output "buckets" {
  description = "Buckets by what they hold."
  value       = { for name, bucket in aws_s3_bucket.this : name => bucket.id }
}

output "queue" {
  description = "Queue of uploads, and its dead letters."
  value       = { url = aws_sqs_queue.uploads.url, dead = aws_sqs_queue.dead.url }
}

output "secrets" {
  description = "Where secrets are, and which ones `bindery deploy aws` fills."
  value       = { from = local.secrets_from, names = local.secret_names }
}

output "database" {
  description = "Address of the database; only tasks reach it."
  value       = "${aws_db_instance.this.address}:${local.ports.database}"
}

output "log_group" {
  description = "Logs of every task."
  value       = aws_cloudwatch_log_group.this.name
}

output "ui" {
  description = "Address of the load balancer, for a CNAME of your host name; empty where there is none: `bindery deploy aws ui`."
  value       = local.balanced ? aws_lb.ui[0].dns_name : ""
}

output "image" {
  description = "Images that are deployed."
  value       = { dagster = var.dagster_image, dbt = var.dbt_image, release = var.release }
}

# Secrets have names here and no values: those are made by `bindery deploy aws`, straight into Secrets Manager or the
# Parameter Store, so that Terraform's state holds none (docs/decisions/0060-secrets-on-aws.md). Parameters can't be
# made empty; where secrets are parameters (`ssm`), the same command makes their names, too.

locals {
  # As in the folder of secrets of the other environments: dagster_project/operations/deploy/secrets.py makes them.
  role_secrets = [for role in ["loader", "transformer", "features", "reader", "api", "dagster", "owner"] : "postgres_${role}_password"]
  secret_names = concat(local.role_secrets, local.ui_login == "basic" ? ["ui_users", "operator_password"] : [])

  secret_arns = {
    for name in local.secret_names : name => local.secrets_in == "ssm" # pragma: allowlist secret
    ? "arn:${local.partition}:ssm:${var.region}:${local.account}:parameter/${var.project}/${name}"
    : aws_secretsmanager_secret.this[name].arn
  }
  secrets_from = local.secrets_in == "ssm" ? "ssm:/${var.project}/" : "secretsmanager:${var.project}/" # pragma: allowlist secret

  # What a task may read by its role: everything under the project's name but these.
  secrets_of_all    = local.secrets_in == "ssm" ? "arn:${local.partition}:ssm:${var.region}:${local.account}:parameter/${var.project}/*" : "arn:${local.partition}:secretsmanager:${var.region}:${local.account}:secret:${var.project}/*" # pragma: allowlist secret
  secrets_of_nobody = [for name in ["postgres_owner_password", "ui_users", "operator_password"] : replace(local.secrets_of_all, "/*", "/${name}*")]
}

resource "aws_secretsmanager_secret" "this" {
  for_each = local.secrets_in == "secretsmanager" ? toset(local.secret_names) : [] # pragma: allowlist secret
  name     = "${var.project}/${each.key}"
  # What is deleted by mistake can be brought back, and what is deleted on purpose leaves its name free at once.
  recovery_window_in_days = var.delete_data ? 0 : 7
  kms_key_id              = var.kms_key_arn
}

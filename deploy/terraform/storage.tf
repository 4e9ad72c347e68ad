# Four buckets: what is landed, what people upload, what goes back, and the output of runs. All private, encrypted,
# reachable through TLS alone.

locals {
  buckets = {
    landing = { versioned = true, archive_days = var.landing_archive_days, expire_days = 0 }
    uploads = { versioned = true, archive_days = 0, expire_days = 0 }
    output  = { versioned = true, archive_days = 0, expire_days = 0 }
    logs    = { versioned = false, archive_days = 0, expire_days = local.log_days }
  }
  # Load balancers and flow logs write to this one, and can't with a key of somebody's own.
  bucket_keys = { for name in keys(local.buckets) : name => name == "logs" ? null : var.kms_key_arn }
}

resource "aws_s3_bucket" "this" {
  for_each = local.buckets
  bucket   = "${var.project}-${each.key}-${local.account}"
  # Terraform never empties a bucket unless it was told that the data may go.
  force_destroy = var.delete_data
  tags          = { "bindery.bucket" = each.key }
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each                = aws_s3_bucket.this
  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = aws_s3_bucket.this
  bucket   = each.value.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = aws_s3_bucket.this
  bucket   = each.value.id

  rule {
    # One request to the key service for many objects.
    bucket_key_enabled = local.bucket_keys[each.key] != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = local.bucket_keys[each.key] == null ? "AES256" : "aws:kms"
      kms_master_key_id = local.bucket_keys[each.key]
    }
  }
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = aws_s3_bucket.this
  bucket   = each.value.id

  versioning_configuration {
    status = local.buckets[each.key].versioned ? "Enabled" : "Suspended"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each = aws_s3_bucket.this
  bucket   = each.value.id

  rule {
    id     = "unfinished-uploads"
    status = "Enabled"
    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  dynamic "rule" {
    for_each = local.buckets[each.key].versioned ? [1] : []

    content {
      id     = "old-versions"
      status = "Enabled"
      filter {}

      noncurrent_version_expiration {
        noncurrent_days = var.keep_noncurrent_days
      }

      expiration {
        expired_object_delete_marker = true
      }
    }
  }

  dynamic "rule" {
    for_each = local.buckets[each.key].archive_days > 0 ? [1] : []

    content {
      id     = "archive"
      status = "Enabled"
      # S3 leaves objects under 128 KiB where they are: they would cost more there.
      filter {}

      transition {
        days          = local.buckets[each.key].archive_days
        storage_class = "GLACIER_IR"
      }
    }
  }

  dynamic "rule" {
    for_each = local.buckets[each.key].expire_days > 0 ? [1] : []

    content {
      id     = "expire"
      status = "Enabled"
      filter {}

      expiration {
        days = local.buckets[each.key].expire_days
      }
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

data "aws_iam_policy_document" "bucket" {
  for_each = aws_s3_bucket.this

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [each.value.arn, "${each.value.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  dynamic "statement" {
    for_each = each.key == "logs" && local.balanced ? [1] : []

    content {
      sid       = "LoadBalancerLogs"
      actions   = ["s3:PutObject"]
      resources = ["${each.value.arn}/load-balancer/AWSLogs/${local.account}/*"]

      principals {
        type        = "Service"
        identifiers = ["logdelivery.elasticloadbalancing.amazonaws.com"]
      }

      condition {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [local.account]
      }
    }
  }

  dynamic "statement" {
    for_each = each.key == "logs" && local.flow_logs ? [1] : []

    content {
      sid       = "FlowLogs"
      actions   = ["s3:PutObject"]
      resources = ["${each.value.arn}/AWSLogs/${local.account}/*"]

      principals {
        type        = "Service"
        identifiers = ["delivery.logs.amazonaws.com"]
      }

      condition {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [local.account]
      }
    }
  }

  dynamic "statement" {
    for_each = each.key == "logs" && local.flow_logs ? [1] : []

    content {
      sid       = "FlowLogsLook"
      actions   = ["s3:GetBucketAcl"]
      resources = [each.value.arn]

      principals {
        type        = "Service"
        identifiers = ["delivery.logs.amazonaws.com"]
      }

      condition {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [local.account]
      }
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  for_each   = aws_s3_bucket.this
  bucket     = each.value.id
  policy     = data.aws_iam_policy_document.bucket[each.key].json
  depends_on = [aws_s3_bucket_public_access_block.this]
}

{{/* What values.schema.json cannot say: combinations that would start and then not work. */}}
{{- define "embedscale.check" -}}
{{- $v := .Values -}}
{{- if not (or $v.tls.secretName $v.insecure) -}}
{{- fail "choose how pods talk: `tls.secretName` (encrypted), or `insecure: true` (plain text, behind network policies or a mesh)" -}}
{{- end -}}
{{- if and $v.tls.secretName $v.insecure -}}
{{- fail "`tls.secretName` and `insecure: true` contradict each other: remove one" -}}
{{- end -}}
{{- if and (or $v.tls.mutual $v.tls.certManager.issuerRef) (not $v.tls.secretName) -}}
{{- fail "`tls.mutual` and `tls.certManager` need `tls.secretName`: the Secret that holds the certificate" -}}
{{- end -}}
{{- if include "embedscale.hasTokens" . -}}
{{- if not $v.tls.secretName -}}
{{- fail "`auth` needs `tls.secretName`: a token in plain text is everybody's" -}}
{{- end -}}
{{- if and (not $v.auth.embeddingTokenSecret) (or $v.evaluator.enabled $v.openaiGateway.enabled) -}}
{{- fail "`auth` needs `auth.embeddingTokenSecret`: evaluator and gateway call the embedders with it" -}}
{{- end -}}
{{- end -}}
{{- if and $v.auth.jwt.keysSecret (not (and $v.auth.jwt.issuer $v.auth.jwt.audience)) -}}
{{- fail "`auth.jwt.keysSecret` needs `auth.jwt.issuer` and `auth.jwt.audience`: else tokens for others would be valid here" -}}
{{- end -}}
{{- if not (or $v.embedders.pools $v.openaiProxy.enabled $v.extraEmbeddingAddresses) -}}
{{- fail "nothing serves models: give `embedders.pools` at least one pool, or enable `openaiProxy`" -}}
{{- end -}}
{{- if and $v.evaluator.enabled (gt (int $v.evaluator.replicas) 1) (not (include "embedscale.hasRedis" .)) -}}
{{- fail "`evaluator.replicas` above 1 needs Redis (`redis.enabled` or `redis.external.urlSecret`), through which they share evaluations" -}}
{{- end -}}
{{- if and $v.openaiGateway.enabled (not $v.openaiGateway.keysSecret) -}}
{{- fail "`openaiGateway` needs `keysSecret`: without keys anybody could use the models" -}}
{{- end -}}
{{- if and $v.openaiProxy.enabled (not $v.openaiProxy.upstreams) -}}
{{- fail "`openaiProxy` needs `upstreams`: without one it has no model to serve" -}}
{{- end -}}
{{- if and (eq $v.weights.kind "image") (semverCompare "<1.31.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail "`weights.kind: image` needs Kubernetes 1.31 or newer" -}}
{{- end -}}
{{- if and (eq $v.weights.kind "image") (not $v.weights.image.reference) -}}
{{- fail "`weights.kind: image` needs `weights.image.reference`" -}}
{{- end -}}
{{- if and $v.grpcRoute.enabled (not (and $v.grpcRoute.parentRefs $v.grpcRoute.domain)) -}}
{{- fail "`grpcRoute` needs `parentRefs` and `domain`" -}}
{{- end -}}
{{- $names := list -}}
{{- range $v.embedders.pools -}}
{{- if has .name $names -}}{{- fail (printf "two pools are named %q" .name) -}}{{- end -}}
{{- $names = append $names .name -}}
{{- $pool := mustMergeOverwrite (deepCopy $v.embedders.defaults) (deepCopy .) -}}
{{- if not $pool.models -}}{{- fail (printf "pool %q has no `models`" .name) -}}{{- end -}}
{{- $scaling := $pool.autoscaling -}}
{{- if and (eq $scaling.kind "keda") (not $scaling.keda.serverAddress) -}}
{{- fail (printf "pool %q: `autoscaling.keda.serverAddress` is needed: the URL of Prometheus" .name) -}}
{{- end -}}
{{- /* Kubernetes shortens the names of pods to 63 characters, and KEDA's queries find the pods of a pool by theirs. */ -}}
{{- $name := include "embedscale.name" (dict "root" $ "component" "embedder" "pool" .name) -}}
{{- if and (eq $scaling.kind "keda") (gt (len $name) 46) -}}
{{- fail (printf "pool %q: with `kind: keda` its Deployment's name may have 46 characters, and %q has %d: set a shorter `fullnameOverride`" .name $name (len $name)) -}}
{{- end -}}
{{- if and (ne $scaling.kind "keda") (lt (int $scaling.minReplicas) 1) -}}
{{- fail (printf "pool %q: `autoscaling.minReplicas: 0` needs `kind: keda`" .name) -}}
{{- end -}}
{{- if lt (int $scaling.maxReplicas) (int $scaling.minReplicas) -}}
{{- fail (printf "pool %q: `autoscaling.maxReplicas` is below `minReplicas`" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

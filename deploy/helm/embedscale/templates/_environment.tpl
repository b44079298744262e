{{/* Settings as environment variables: texts as they are, all else as JSON. */}}
{{- define "embedscale.settings" -}}
{{- range $name, $value := . }}
- name: EMBEDSCALE_{{ upper $name }}
  value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end }}
{{- end -}}

{{/* What every server is told: where to listen, its certificate, how long to drain. */}}
{{- define "embedscale.env.listener" -}}
- name: EMBEDSCALE_HOST
  value: "0.0.0.0"
- name: EMBEDSCALE_METRICS_PORT
  value: "9090"
- name: EMBEDSCALE_DRAIN_SECONDS
  value: {{ .Values.lifecycle.drainSeconds | quote }}
{{- if .Values.tls.secretName }}
- name: EMBEDSCALE_TLS_CERTIFICATE_FILE
  value: /etc/embedscale/tls/tls.crt
- name: EMBEDSCALE_TLS_KEY_FILE
  value: /etc/embedscale/tls/tls.key
{{- else }}
- name: EMBEDSCALE_INSECURE
  value: "true"
{{- end }}
{{- end -}}

{{/* What gRPC servers are told beyond it: probes, callers. */}}
{{- define "embedscale.env.grpc" -}}
- name: EMBEDSCALE_HEALTH_PORT
  value: "50052"
{{- if .Values.tls.mutual }}
- name: EMBEDSCALE_TLS_CLIENT_CA_FILE
  value: /etc/embedscale/tls/ca.crt
{{- end }}
{{- if .Values.auth.tokensSecret }}
- name: EMBEDSCALE_AUTH_TOKENS_FILE
  value: /etc/embedscale/tokens/tokens.yaml
{{- end }}
{{- with .Values.auth.jwt }}
{{- if .keysSecret }}
- name: EMBEDSCALE_JWT_KEYS_FILE
  value: /etc/embedscale/jwt/keys
- name: EMBEDSCALE_JWT_ISSUER
  value: {{ .issuer | quote }}
- name: EMBEDSCALE_JWT_AUDIENCE
  value: {{ .audience | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "embedscale.env.redis" -}}
{{- if .Values.redis.external.urlSecret }}
- name: EMBEDSCALE_REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.redis.external.urlSecret }}, key: url}}
{{- else if .Values.redis.enabled }}
{{- $host := include "embedscale.host" (dict "root" . "component" "redis") }}
{{- if .Values.redis.passwordSecret }}
- name: REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .Values.redis.passwordSecret }}, key: password}}
- name: EMBEDSCALE_REDIS_URL
  value: redis://:$(REDIS_PASSWORD)@{{ $host }}:6379/0
{{- else }}
- name: EMBEDSCALE_REDIS_URL
  value: redis://{{ $host }}:6379/0
{{- end }}
{{- end }}
{{- end -}}

{{/* How evaluator and gateway reach the embedders. */}}
{{- define "embedscale.env.embeddings" -}}
{{- $own := include "embedscale.embeddingAddresses" . | fromJsonArray }}
- name: EMBEDSCALE_EMBEDDING_ADDRESSES
  value: {{ concat $own .Values.extraEmbeddingAddresses | toJson | quote }}
{{- if .Values.tls.secretName }}
- name: EMBEDSCALE_EMBEDDING_CA_FILE
  value: /etc/embedscale/tls/ca.crt
{{- if .Values.tls.mutual }}
- name: EMBEDSCALE_EMBEDDING_CERTIFICATE_FILE
  value: /etc/embedscale/tls/tls.crt
- name: EMBEDSCALE_EMBEDDING_KEY_FILE
  value: /etc/embedscale/tls/tls.key
{{- end }}
{{- end }}
{{- if .Values.auth.embeddingTokenSecret }}
- name: EMBEDSCALE_EMBEDDING_TOKEN_FILE
  value: /etc/embedscale/embedding-token/token
{{- end }}
{{- end -}}

{{/* Volumes of Secrets and ConfigMaps that a component reads: a list of (name, kind, source). Never by subPath, which does not follow changes. */}}
{{- define "embedscale.files" -}}
{{- $v := .root.Values -}}
{{- $files := list -}}
{{- if ne .component "weights" -}}
{{- with $v.tls.secretName }}{{ $files = append $files (dict "name" "tls" "secret" .) }}{{ end -}}
{{- end -}}
{{- if has .component (list "embedder" "openai-proxy" "evaluator") -}}
{{- with $v.auth.tokensSecret }}{{ $files = append $files (dict "name" "tokens" "secret" .) }}{{ end -}}
{{- with $v.auth.jwt.keysSecret }}{{ $files = append $files (dict "name" "jwt" "secret" .) }}{{ end -}}
{{- with $v.redis.external.caSecret }}{{ $files = append $files (dict "name" "redis" "secret" .) }}{{ end -}}
{{- end -}}
{{- if has .component (list "evaluator" "openai-gateway") -}}
{{- with $v.auth.embeddingTokenSecret }}{{ $files = append $files (dict "name" "embedding-token" "secret" .) }}{{ end -}}
{{- end -}}
{{- if and $v.catalog (has .component (list "embedder" "openai-proxy" "weights")) -}}
{{- $files = append $files (dict "name" "catalog" "configMap" (include "embedscale.name" (dict "root" .root "component" "catalog"))) -}}
{{- end -}}
{{- if eq .component "test" -}}
{{- $files = append $files (dict "name" "contexts" "configMap" (include "embedscale.name" .)) -}}
{{- with $v.auth.testTokenSecret }}{{ $files = append $files (dict "name" "test-token" "secret" .) }}{{ end -}}
{{- end -}}
{{- if eq .component "openai-gateway" -}}
{{- $files = append $files (dict "name" "keys" "secret" $v.openaiGateway.keysSecret) -}}
{{- end -}}
{{- toJson $files -}}
{{- end -}}

{{- define "embedscale.volumes" -}}
- name: tmp
  emptyDir: {}
{{- range include "embedscale.files" . | fromJsonArray }}
- name: {{ .name }}
  {{- if .secret }}
  secret: {secretName: {{ .secret }}, defaultMode: 0440}
  {{- else }}
  configMap: {name: {{ .configMap }}}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "embedscale.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- range include "embedscale.files" . | fromJsonArray }}
- {name: {{ .name }}, mountPath: /etc/embedscale/{{ .name }}, readOnly: true}
{{- end }}
{{- end -}}

{{- define "embedscale.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 31 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 31 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels by which the pods of a component, or of one group of it, are found: (dict "root" $ "component" "embedder" "pool" "gpu") */}}
{{- define "embedscale.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .pool }}
embedscale/pool: {{ . }}
{{- end }}
{{- end -}}

{{- define "embedscale.labels" -}}
{{ include "embedscale.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: embedscale
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* Image of a role: (dict "root" $ "role" "evaluator") */}}
{{- define "embedscale.image" -}}
{{- $image := .root.Values.image -}}
{{- printf "%s/%s:%s" $image.repository .role (default .root.Chart.AppVersion $image.tag) -}}
{{- end -}}

{{/* Name of a component's resources, and of its Service: (dict "root" $ "component" "embedder" "pool" "gpu") */}}
{{- define "embedscale.name" -}}
{{- $name := printf "%s-%s" (include "embedscale.fullname" .root) .component -}}
{{- with .pool }}{{ $name = printf "%s-%s" $name . }}{{ end -}}
{{- $name -}}
{{- end -}}

{{- define "embedscale.host" -}}
{{ include "embedscale.name" . }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
{{- end -}}

{{- define "embedscale.port" -}}
{{- ternary 8080 50051 (eq . "openai-gateway") -}}
{{- end -}}

{{/* Every replica behind a name: gRPC balances over all addresses. */}}
{{- define "embedscale.address" -}}
dns:///{{ include "embedscale.host" . }}:50051
{{- end -}}

{{/* JSON list of the addresses of EmbeddingService in this release. */}}
{{- define "embedscale.embeddingAddresses" -}}
{{- $addresses := list -}}
{{- range .Values.embedders.pools -}}
{{- $addresses = append $addresses (include "embedscale.address" (dict "root" $ "component" "embedder" "pool" .name)) -}}
{{- end -}}
{{- if .Values.openaiProxy.enabled -}}
{{- $addresses = append $addresses (include "embedscale.address" (dict "root" $ "component" "openai-proxy")) -}}
{{- end -}}
{{- toJson $addresses -}}
{{- end -}}

{{/* Components that run here, as a JSON list of (component, pool): what has a Service, a PodDisruptionBudget and a route. */}}
{{- define "embedscale.groups" -}}
{{- $groups := list -}}
{{- range .Values.embedders.pools -}}
{{- $groups = append $groups (dict "component" "embedder" "pool" .name) -}}
{{- end -}}
{{- if .Values.openaiProxy.enabled }}{{ $groups = append $groups (dict "component" "openai-proxy") }}{{ end -}}
{{- if .Values.openaiGateway.enabled }}{{ $groups = append $groups (dict "component" "openai-gateway") }}{{ end -}}
{{- if .Values.evaluator.enabled }}{{ $groups = append $groups (dict "component" "evaluator") }}{{ end -}}
{{- toJson $groups -}}
{{- end -}}

{{/* The components of these groups, and the pod of `helm test`, as a JSON list. */}}
{{- define "embedscale.components" -}}
{{- $components := list "test" -}}
{{- range include "embedscale.groups" . | fromJsonArray }}{{ $components = append $components .component }}{{ end -}}
{{- $components | uniq | toJson -}}
{{- end -}}

{{- define "embedscale.hasRedis" -}}
{{- if or .Values.redis.enabled .Values.redis.external.urlSecret }}true{{ end -}}
{{- end -}}

{{- define "embedscale.ownRedis" -}}
{{- if and .Values.redis.enabled (not .Values.redis.external.urlSecret) }}true{{ end -}}
{{- end -}}

{{/* Whether a Job fills the volume of weights. */}}
{{- define "embedscale.fetches" -}}
{{- if and (eq .Values.weights.kind "claim") .Values.embedders.pools }}true{{ end -}}
{{- end -}}

{{/* Whether callers need a token. */}}
{{- define "embedscale.hasTokens" -}}
{{- if or .Values.auth.tokensSecret .Values.auth.jwt.keysSecret }}true{{ end -}}
{{- end -}}

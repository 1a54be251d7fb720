// Package metrics counts what the registry does, under zot's names and some of its own, for Prometheus.
package metrics

import (
	"context"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics is one process's figures. Make it with New.
type Metrics struct {
	handler      http.Handler
	requests     *prometheus.CounterVec
	repoLatency  *prometheus.SummaryVec
	latency      *prometheus.HistogramVec
	repoBytes    *prometheus.GaugeVec
	uploads      *prometheus.CounterVec
	downloads    *prometheus.CounterVec
	received     prometheus.Counter
	sent         prometheus.Counter
	mu           sync.Mutex // guards touched
	touched      map[string]bool
	repositories map[string]bool
}

// maxRepos bounds the repositories that have figures of their own; those beyond are counted under "".
const maxRepos = 10_000

// New makes the figures of one server.
func New(version, commit string) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "zot", Name: "http_requests_total",
			Help: "Total number of HTTP requests"}, []string{"method", "code"}),
		repoLatency: prometheus.NewSummaryVec(prometheus.SummaryOpts{Namespace: "zot", Name: "http_repo_latency_seconds",
			Help: "Latency of serving HTTP requests by repository"}, []string{"repo"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "zot", Name: "http_method_latency_seconds",
			Help: "Latency of serving HTTP requests by method", Buckets: []float64{.001, .005, .05, .5, 1, 5, 30, 60, 600}}, []string{"method"}),
		repoBytes: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "zot", Name: "repo_storage_bytes",
			Help: "Bytes of the blobs and manifests that a repository links"}, []string{"repo"}),
		uploads: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "zot", Name: "repo_uploads_total",
			Help: "Total number of manifests pushed"}, []string{"repo"}),
		downloads: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "zot", Name: "repo_downloads_total",
			Help: "Total number of manifests pulled"}, []string{"repo"}),
		received: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "longshore", Subsystem: "registry", Name: "received_bytes_total",
			Help: "Bytes of request bodies that were read"}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "longshore", Subsystem: "registry", Name: "sent_bytes_total",
			Help: "Bytes of response bodies that were written"}),
		touched: map[string]bool{}, repositories: map[string]bool{},
	}
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "zot", Name: "info", Help: "Server general information"},
		[]string{"commit", "binaryType", "goVersion", "version"})
	info.WithLabelValues(commit, "longshore", runtime.Version(), version).Set(0)
	r := prometheus.NewRegistry()
	r.MustRegister(m.requests, m.repoLatency, m.latency, m.repoBytes, m.uploads, m.downloads, m.received, m.sent, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(r, promhttp.HandlerOpts{})
	return m
}

// Request counts one answer. repo is empty for requests that are about none, or that failed.
func (m *Metrics) Request(method string, status int, repo string, took time.Duration) {
	method = known(method)
	m.requests.WithLabelValues(method, strconv.Itoa(status)).Inc()
	m.latency.WithLabelValues(method).Observe(took.Seconds())
	if repo == "" {
		repo = "N/A"
	} else {
		repo = m.label(repo)
	}
	m.repoLatency.WithLabelValues(repo).Observe(took.Seconds())
}

// known keeps made-up methods from making figures.
func known(method string) string {
	switch method {
	case "GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS":
		return method
	}
	return "OTHER"
}

func (m *Metrics) label(repo string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.repositories[repo] {
		if len(m.repositories) >= maxRepos {
			return ""
		}
		m.repositories[repo] = true
	}
	return repo
}

// Bytes counts what bodies held.
func (m *Metrics) Bytes(received, sent int64) {
	m.received.Add(float64(received))
	m.sent.Add(float64(sent))
}

// Uploaded counts a push.
func (m *Metrics) Uploaded(repo string) {
	repo = m.label(repo)
	m.uploads.WithLabelValues(repo).Inc()
	m.mu.Lock()
	defer m.mu.Unlock()
	if repo != "" {
		m.touched[repo] = true
	}
}

// Downloaded counts a pull.
func (m *Metrics) Downloaded(repo string) { m.downloads.WithLabelValues(m.label(repo)).Inc() }

// Refresh asks for the size of the repositories that were pushed to since the last time.
func (m *Metrics) Refresh(ctx context.Context, bytes func(context.Context, string) (int64, error)) {
	m.mu.Lock()
	touched := m.touched
	m.touched = map[string]bool{}
	m.mu.Unlock()
	for repo := range touched {
		if n, err := bytes(ctx, repo); err == nil {
			m.repoBytes.WithLabelValues(repo).Set(float64(n))
		}
	}
}

// ServeHTTP writes the figures.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.handler.ServeHTTP(w, r) }

// Package metrics counts what the engine does, under dockerd's names, for Prometheus.
package metrics

import (
	"context"
	"net/http"
	"time"

	"github.com/moby/moby/api/types/events"
	api "github.com/moby/moby/api/types/system"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Engine is what the figures come from.
type Engine interface {
	Info(ctx context.Context) api.Info
	Version() api.VersionResponse
}

// Containers counts.
type Containers interface {
	Counts() (running, paused, stopped int)
	// Probes are the health checks that have been made, and those of them that failed.
	Probes() (made, failed uint64)
}

// Events is where events come from.
type Events interface {
	Read(ctx context.Context, since, until time.Time, emit func(events.Message) error) error
	Listeners() int
}

// Metrics is one daemon's figures. Make it with New.
type Metrics struct {
	handler http.Handler
	actions map[string]*prometheus.HistogramVec // by kind of object
	events  prometheus.Counter
	builds  prometheus.Counter
	source  Events
}

const (
	namespace = "engine"
	subsystem = "daemon"
)

// timed are the operations that dockerd times: route to kind and action.
var timed = map[string][2]string{
	"POST /containers/create":        {"container", "create"},
	"POST /containers/{id}/start":    {"container", "start"},
	"DELETE /containers/{id}":        {"container", "delete"},
	"GET /containers/{id}/changes":   {"container", "changes"},
	"POST /commit":                   {"container", "commit"},
	"POST /networks/create":          {"network", "create"},
	"DELETE /networks/{id}":          {"network", "delete"},
	"POST /networks/{id}/connect":    {"network", "connect"},
	"POST /networks/{id}/disconnect": {"network", "disconnect"},
	"DELETE /images/{name...}":       {"image", "delete"},
	"POST /build":                    {"build", "build"},
}

// New registers everything; info is told once.
func New(e Engine, c Containers, ev Events) *Metrics {
	m := &Metrics{actions: map[string]*prometheus.HistogramVec{}, source: ev}
	r := prometheus.NewRegistry()
	for _, kind := range []string{"container", "network", "image"} {
		m.actions[kind] = prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: kind + "_actions_seconds",
			Help: "The number of seconds it takes to process each " + kind + " action",
		}, []string{"action"})
		r.MustRegister(m.actions[kind])
	}
	m.events = prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: "events_total", Help: "The number of events logged"})
	m.builds = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "builder", Name: "builds_triggered_total", Help: "Number of triggered image builds",
	})
	r.MustRegister(m.events, m.builds, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, g := range []struct {
		name, help string
		value      func() float64
	}{
		{"events_subscribers_total", "The number of current subscribers to events", func() float64 { return float64(ev.Listeners()) }},
		{"engine_cpus_cpus", "The number of cpus that the host system of the engine has", func() float64 { return float64(e.Info(context.Background()).NCPU) }},
		{"engine_memory_bytes", "The number of bytes of memory that the host system of the engine has", func() float64 { return float64(e.Info(context.Background()).MemTotal) }},
	} {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: g.name, Help: g.help}, g.value))
	}
	for _, n := range []struct {
		name, help string
		value      func() float64
	}{
		{"health_checks_total", "The total number of health checks", func() float64 { made, _ := c.Probes(); return float64(made) }},
		{"health_checks_failed_total", "The total number of failed health checks", func() float64 { _, failed := c.Probes(); return float64(failed) }},
	} {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: n.name, Help: n.help}, n.value))
	}
	r.MustRegister(states{c}, information(e))
	m.handler = promhttp.HandlerFor(r, promhttp.HandlerOpts{})
	return m
}

// Handler serves /metrics.
func (m *Metrics) Handler() http.Handler { return m.handler }

// Run counts events until ctx is done.
func (m *Metrics) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		// a subscriber that fell behind starts again
		_ = m.source.Read(ctx, time.Time{}, time.Time{}, func(events.Message) error {
			m.events.Inc()
			return nil
		})
	}
	return nil
}

// Observe is told of each answered request.
func (m *Metrics) Observe(route string, took time.Duration, failed bool) {
	action, ok := timed[route]
	if !ok {
		return
	}
	if action[0] == "build" {
		m.builds.Inc()
		return
	}
	if !failed {
		m.actions[action[0]].WithLabelValues(action[1]).Observe(took.Seconds())
	}
}

// states collects the containers by state.
type states struct{ c Containers }

var statesDesc = prometheus.NewDesc("engine_daemon_container_states_containers", "The count of containers in various states", []string{"state"}, nil)

// Describe implements prometheus.Collector.
func (states) Describe(ch chan<- *prometheus.Desc) { ch <- statesDesc }

// Collect implements prometheus.Collector.
func (s states) Collect(ch chan<- prometheus.Metric) {
	running, paused, stopped := s.c.Counts()
	for state, n := range map[string]int{"running": running, "paused": paused, "stopped": stopped} {
		ch <- prometheus.MustNewConstMetric(statesDesc, prometheus.GaugeValue, float64(n), state)
	}
}

func information(e Engine) prometheus.Collector {
	i, v := e.Info(context.Background()), e.Version()
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "engine_info", Help: "The information related to the engine and the OS it is running on",
		ConstLabels: prometheus.Labels{
			"version": v.Version, "commit": v.GitCommit, "architecture": i.Architecture, "graphdriver": i.Driver, "kernel": i.KernelVersion,
			"os": i.OperatingSystem, "os_type": i.OSType, "os_version": i.OSVersion, "daemon_id": i.ID,
		},
	})
	g.Set(1)
	return g
}

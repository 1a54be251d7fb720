// Package authzplugin asks dockerd's authorization plugins: programs that serve HTTP on a socket and say of each request,
// and of each answer, whether it may be. The protocol is docker's plugin API, versions 1.x
// (https://docs.docker.com/engine/extend/plugins_authorization/).
//
//	p, err := authzplugin.Open(ctx, "opa", authzplugin.Places{}) // waits for it until ctx is done
//	verdict, err := p.Request(ctx, &authzplugin.Call{RequestMethod: "GET", RequestURI: "/v1.55/info"})
package authzplugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"longshore/internal/core/fault"
)

const (
	// mediaType is what plugins are told to answer with.
	mediaType = "application/vnd.docker.plugins.v1.2+json"
	// maxAnswer bounds a plugin's answer in bytes.
	maxAnswer = 1 << 20
	// patience is how long a plugin may be away, between its end and its new start.
	patience = 15 * time.Second
)

// Call is what a plugin is told. The answer's part is filled for Response only.
type Call struct {
	User            string `json:"User,omitempty"`
	UserAuthNMethod string `json:"UserAuthNMethod,omitempty"`
	RequestMethod   string `json:"RequestMethod,omitempty"`
	// RequestURI is the path and query as the client sent them.
	RequestURI     string            `json:"RequestUri,omitempty"`
	RequestBody    []byte            `json:"RequestBody,omitempty"`
	RequestHeaders map[string]string `json:"RequestHeaders,omitempty"`
	// RequestPeerCertificates are the client's TLS certificates in PEM.
	RequestPeerCertificates [][]byte          `json:"RequestPeerCertificates,omitempty"`
	ResponseStatusCode      int               `json:"ResponseStatusCode,omitempty"`
	ResponseBody            []byte            `json:"ResponseBody,omitempty"`
	ResponseHeaders         map[string]string `json:"ResponseHeaders,omitempty"`
}

// Verdict is a plugin's answer; Msg is for the client that is refused.
type Verdict struct {
	Allow bool   `json:"Allow"`
	Msg   string `json:"Msg,omitempty"`
	Err   string `json:"Err,omitempty"`
}

// Plugin is one that has been found and has introduced itself. Safe for concurrent use.
type Plugin struct {
	name   string
	base   string // "http://plugin"
	client *http.Client
}

// Open finds a plugin and has it introduce itself. It tries again, for a plugin that starts beside the engine, until ctx
// is done; then the error is the last one, ErrNotFound when there is none of that name.
func Open(ctx context.Context, name string, places Places) (*Plugin, error) {
	var p *Plugin
	err := retry(ctx, func() (again bool, err error) {
		if p, err = places.find(name); err == nil {
			err = p.activate(ctx)
		}
		return err != nil && !errors.Is(err, errOther), err
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

var errOther = errors.New("plugin does not implement the requested driver")

// activate asks what the plugin is.
func (p *Plugin) activate(ctx context.Context) error {
	var manifest struct{ Implements []string }
	if err := p.post(ctx, "Plugin.Activate", nil, &manifest); err != nil {
		return err
	}
	if !slices.Contains(manifest.Implements, "authz") {
		return fmt.Errorf("plugin %q: %w: authz", p.name, errOther)
	}
	return nil
}

// Name is the plugin's name.
func (p *Plugin) Name() string { return p.name }

// Request asks about a request that has not been carried out yet.
func (p *Plugin) Request(ctx context.Context, c *Call) (Verdict, error) {
	return p.ask(ctx, "AuthZPlugin.AuthZReq", c)
}

// Response asks about an answer that is to be sent.
func (p *Plugin) Response(ctx context.Context, c *Call) (Verdict, error) {
	return p.ask(ctx, "AuthZPlugin.AuthZRes", c)
}

// Close lets go of connections that nobody uses.
func (p *Plugin) Close() { p.client.CloseIdleConnections() }

func (p *Plugin) ask(ctx context.Context, method string, c *Call) (v Verdict, err error) {
	doc, err := json.Marshal(c)
	if err != nil {
		return Verdict{}, err
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = retry(limited, func() (bool, error) {
		err := p.post(ctx, method, doc, &v)
		var op *net.OpError
		return errors.As(err, &op) && op.Op == "dial", err
	})
	if err == nil && v.Err != "" {
		err = errors.New(v.Err)
	}
	if err != nil {
		return Verdict{}, err
	}
	return v, nil
}

// post calls one method and decodes its answer.
func (p *Plugin) post(ctx context.Context, method string, doc []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+"/"+method, bytes.NewReader(doc))
	if err != nil {
		return err
	}
	req.Header.Set("Accept", mediaType)
	req.Header.Set("Content-Type", mediaType)
	req.Header["Idempotency-Key"] = nil // not sent: tells the transport to ask again where an idle connection has died
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("%s: read answer: %w", method, err)
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("%s: the answer is longer than %d bytes", method, maxAnswer)
	}
	if resp.StatusCode != http.StatusOK {
		var failure struct{ Err string }
		text := strings.TrimSpace(string(body))
		if json.Unmarshal(body, &failure) == nil && failure.Err != "" {
			text = failure.Err
		}
		return fmt.Errorf("%s: %s", method, text)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: the answer is no JSON: %w", method, err)
	}
	return nil
}

// retry tries until it works, need not be tried again, or ctx is done; pauses grow up to a second.
func retry(ctx context.Context, try func() (again bool, err error)) error {
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		again, err := try()
		if !again {
			return err
		}
		wait := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			wait.Stop()
			return err
		case <-wait.C:
		}
	}
}

// notFound is docker's word for a plugin that nobody has heard of.
func notFound(name string) error { return fault.NotFound("plugin %q not found", name) }

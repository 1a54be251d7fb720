package legacy

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"sync"

	"github.com/moby/moby/api/types/registry"

	"longshore/internal/core/fault"
	"longshore/internal/server/route"
)

// account is the login that daemons of 1.0 and 1.1 kept for all clients. It lasts as long as the daemon runs: secrets
// are not written down.
type account struct {
	mu    sync.Mutex // guards login
	login login
}

// login is what clients of that day sent.
type login struct {
	registry.AuthConfig
	Email string `json:"email"`
}

func (a *account) get() login {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.login
}

func (a *account) set(l login) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.login = l
}

// shownAccount is what GET /auth tells, in its document's words.
type shownAccount struct {
	Username string `json:"username"`
	Email    string `json:"email"`
}

func (h *handlers) showAccount(context.Context, *route.Request) (route.Response, error) {
	a := h.account.get()
	return route.JSON{Body: shownAccount{Username: a.Username, Email: a.Email}}, nil
}

// login checks credentials and keeps them.
func (h *handlers) login(ctx context.Context, r *route.Request) (route.Response, error) {
	doc, err := io.ReadAll(io.LimitReader(r.Payload(), route.MaxBody))
	if err != nil {
		return nil, fault.Invalid("read request body: %v", err)
	}
	r.SetBody(doc)
	resp, err := h.pass(ctx, "POST /auth", r)
	if err != nil {
		return nil, err
	}
	var auth login
	if err := json.NewDecoder(bytes.NewReader(doc)).Decode(&auth); err != nil {
		return nil, fault.Invalid("invalid JSON: %v", err)
	}
	h.account.set(auth)
	return resp, nil
}

// push uses the kept login.
func (h *handlers) push(ctx context.Context, r *route.Request) (route.Response, error) {
	if a := h.account.get(); a != (login{}) {
		doc, err := json.Marshal(a.AuthConfig)
		if err != nil {
			return nil, err
		}
		r.HTTP.Header.Set(registry.AuthHeader, base64.URLEncoding.EncodeToString(doc))
	}
	return h.pass(ctx, "POST /images/{name...}/push", r)
}

package accountsapi

import (
	"crypto/md5" //nolint:gosec // the name of a picture, as Gravatar has it
	"encoding/hex"
	"errors"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"

	"longshore/internal/core/account"
	"longshore/internal/service/auth"
	"longshore/internal/service/auth/accounts"
	"longshore/internal/service/auth/oauth"
)

// visitor is who asks.
type visitor struct {
	name  string
	admin bool
	// access is what a token allows; nil for a password, which allows everything of its own.
	access *oauth.Access
}

// identify finds out who asks: a password by Basic, or an OAuth2 access token.
func (h *Handler) identify(r *http.Request) (visitor, error) {
	header := r.Header.Get("Authorization")
	switch scheme, value := auth.ParseAuthorization(header); scheme {
	case auth.Basic:
		user, password, ok := auth.ParseBasic(value)
		if !ok {
			return visitor{}, errPassword
		}
		who, err := h.auth.Login(r.Context(), user, password, r.RemoteAddr)
		if err != nil {
			return visitor{}, err
		}
		return h.seen(r, visitor{name: who.Name, admin: h.auth.IsAdmin(who)}), nil
	case auth.Bearer:
		a, err := h.oauth.Access(r.Context(), value)
		if err != nil {
			return visitor{}, err
		}
		return h.seen(r, visitor{name: a.User.Name, access: &a}), nil
	}
	return visitor{}, errLogin
}

func (h *Handler) seen(r *http.Request, v visitor) visitor {
	h.o.Subject(r.Context(), v.name)
	return v
}

// may says whether the visitor may do what a scope stands for with a user's account: only its own, and with the scope.
func (v *visitor) may(user, scope string) error {
	if v.name != user || v.access != nil && !v.access.Has(scope) {
		return errForbidden
	}
	return nil
}

// userCall answers a request about a user who is there, by somebody who may ask.
type userCall func(h *Handler, w http.ResponseWriter, r *http.Request, name string, v visitor) error

type operation struct {
	scope string
	call  userCall
}

// userOperations and emailOperations are the API.
var (
	userOperations = map[string]operation{
		http.MethodGet:   {oauth.ProfileRead, (*Handler).getUser},
		http.MethodPatch: {oauth.ProfileWrite, (*Handler).patchUser},
	}
	emailOperations = map[string]operation{
		http.MethodGet:    {oauth.EmailRead, (*Handler).getEmails},
		http.MethodPost:   {oauth.EmailWrite, (*Handler).postEmail},
		http.MethodPatch:  {oauth.EmailWrite, (*Handler).patchEmail},
		http.MethodDelete: {oauth.EmailWrite, (*Handler).deleteEmail},
	}
)

// serveAPI takes "janedoe" or "janedoe/emails".
func (h *Handler) serveAPI(w http.ResponseWriter, r *http.Request, rest string) {
	name, below, _ := strings.Cut(rest, "/")
	operations := userOperations
	if below == "emails" {
		operations = emailOperations
	} else if below != "" {
		h.refuse(w, r, errNotFound)
		return
	}
	methods := map[string]call{}
	for m, op := range operations {
		methods[m] = func(h *Handler, w http.ResponseWriter, r *http.Request) error { return h.run(w, r, name, op) }
	}
	h.dispatch(w, r, methods)
}

// run asks who it is, whether the user is there, and whether it may, in this order.
func (h *Handler) run(w http.ResponseWriter, r *http.Request, name string, op operation) error {
	v, err := h.identify(r)
	if err != nil {
		return err
	}
	if _, _, err := h.accounts.User(r.Context(), name); err != nil {
		return err
	}
	// An administrator verifies the addresses of others; patchEmail looks at what exactly is asked.
	verifying := r.Method == http.MethodPatch && op.scope == oauth.EmailWrite && v.admin
	if err := v.may(name, op.scope); err != nil && !verifying {
		return err
	}
	return op.call(h, w, r, name, v)
}

// userDocument is a user in the document's words.
type userDocument struct {
	ID          int64  `json:"id"`
	Username    string `json:"username"`
	URL         string `json:"url"`
	DateJoined  string `json:"date_joined"`
	Type        string `json:"type"`
	FullName    string `json:"full_name"`
	Location    string `json:"location"`
	Company     string `json:"company"`
	ProfileURL  string `json:"profile_url"`
	GravatarURL string `json:"gravatar_url"`
	Email       string `json:"email"`
	IsActive    bool   `json:"is_active"`
}

func (h *Handler) userDocument(r *http.Request, u account.User, primary account.Email) userDocument {
	picture := u.GravatarEmail
	if picture == "" {
		picture = primary.Address
	}
	sum := md5.Sum([]byte(strings.ToLower(strings.TrimSpace(picture)))) //nolint:gosec // see the import
	return userDocument{
		ID: u.ID, Username: u.Name, URL: h.base(r) + Path + "users/" + u.Name + "/",
		DateJoined: u.Joined.UTC().Format("2006-01-02T15:04:05.000000Z"), Type: "User", FullName: u.FullName, Location: u.Location,
		Company: u.Company, ProfileURL: u.URL, Email: primary.Address, IsActive: u.Active,
		GravatarURL: "https://secure.gravatar.com/avatar/" + hex.EncodeToString(sum[:]) + ".jpg?s=80&r=g&d=mm",
	}
}

func (h *Handler) getUser(w http.ResponseWriter, r *http.Request, name string, _ visitor) error {
	u, email, err := h.accounts.User(r.Context(), name)
	if err == nil {
		writeJSON(w, r, http.StatusOK, h.userDocument(r, u, email))
	}
	return err
}

// profileFields are the names of the document, in its order.
func profileFields(c *accounts.ProfileChange) map[string]**string {
	return map[string]**string{
		"full_name": &c.FullName, "location": &c.Location, "company": &c.Company, "profile_url": &c.URL, "gravatar_email": &c.GravatarEmail,
	}
}

func (h *Handler) patchUser(w http.ResponseWriter, r *http.Request, name string, v visitor) error {
	f, err := readFields(w, r)
	if err != nil {
		return err
	}
	var c accounts.ProfileChange
	wrong := invalid{}
	for field, to := range profileFields(&c) {
		if *to = f.text(field, wrong); *to != nil {
			check(wrong, field, **to)
		}
	}
	if len(wrong) > 0 {
		return wrong
	}
	if _, err := h.accounts.UpdateProfile(r.Context(), name, c); err != nil {
		return err
	}
	return h.getUser(w, r, name, v)
}

// check finds what is wrong with one field, so that all are told at once and by name.
func check(wrong invalid, field, value string) {
	var p account.Profile
	switch field {
	case "full_name":
		p.FullName = value
	case "location":
		p.Location = value
	case "company":
		p.Company = value
	case "profile_url":
		p.URL = value
	case "gravatar_email":
		p.GravatarEmail = value
	}
	if err := p.Check(); err != nil {
		wrong[field] = []string{strings.TrimPrefix(err.Error(), field+": ")}
	}
}

// emailDocument is an address in the document's words.
type emailDocument struct {
	Email    string `json:"email"`
	Verified bool   `json:"verified"`
	Primary  bool   `json:"primary"`
}

func (h *Handler) getEmails(w http.ResponseWriter, r *http.Request, name string, _ visitor) error {
	list, err := h.accounts.Emails(r.Context(), name)
	if err != nil {
		return err
	}
	out := make([]emailDocument, len(list))
	for i, e := range list {
		out[i] = emailDocument{e.Address, e.Verified, e.Primary}
	}
	writeJSON(w, r, http.StatusOK, out)
	return nil
}

// email reads the address of a body, with its other fields.
func email(w http.ResponseWriter, r *http.Request) (string, fields, error) {
	f, err := readFields(w, r)
	if err != nil {
		return "", nil, err
	}
	wrong := invalid{}
	address := f.text("email", wrong)
	if address == nil && len(wrong) == 0 {
		wrong["email"] = []string{"This field is required."}
	}
	if len(wrong) > 0 {
		return "", nil, wrong
	}
	return *address, f, nil
}

// aboutEmail tells what is wrong with an address as what is wrong with its field.
func aboutEmail(err error) error {
	if errors.Is(err, errdefs.ErrInvalidArgument) || errors.Is(err, errdefs.ErrAlreadyExists) {
		return invalid{"email": {err.Error()}}
	}
	return err
}

func (h *Handler) postEmail(w http.ResponseWriter, r *http.Request, name string, _ visitor) error {
	address, _, err := email(w, r)
	if err != nil {
		return err
	}
	if err := h.accounts.AddEmail(r.Context(), name, address); err != nil {
		return aboutEmail(err)
	}
	writeJSON(w, r, http.StatusCreated, emailDocument{Email: address})
	return nil
}

// patchEmail makes an address the primary one, or marks it as verified. The latter is for administrators, who have seen
// that it is; and of others' addresses they do nothing else.
func (h *Handler) patchEmail(w http.ResponseWriter, r *http.Request, name string, v visitor) error {
	address, f, err := email(w, r)
	if err != nil {
		return err
	}
	wrong := invalid{}
	c := accounts.EmailChange{Verify: f.truth("verified", wrong), Primary: f.truth("primary", wrong)}
	if !c.Verify && !c.Primary && len(wrong) == 0 {
		wrong["primary"] = []string{"Give primary or verified."}
	}
	if len(wrong) > 0 {
		return wrong
	}
	if c.Verify && !v.admin || c.Primary && v.may(name, oauth.EmailWrite) != nil {
		return errForbidden
	}
	e, err := h.accounts.ChangeEmail(r.Context(), name, address, c)
	if err == nil {
		writeJSON(w, r, http.StatusOK, emailDocument{e.Address, e.Verified, e.Primary})
	}
	return err
}

func (h *Handler) deleteEmail(w http.ResponseWriter, r *http.Request, name string, _ visitor) error {
	address, _, err := email(w, r)
	if err != nil {
		return err
	}
	if err := h.accounts.DeleteEmail(r.Context(), name, address); err != nil {
		return aboutEmail(err)
	}
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

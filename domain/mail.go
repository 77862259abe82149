package domain

import "context"

// Mail is one message to one person, made from a template of web/mail.
type Mail struct {
	Template string            // "invitation": the file of that name in each language
	To       string            // one address
	ReplyTo  string            // "" for none
	Locale   string            // of the reader: "en" or "zh-CN"
	Data     map[string]string // every field that the template names, and no other
	Items    []string          // what its line "- {{.item}}" is repeated for

	// The member that it is for, where one is: what they wish to be mailed is asked.
	Tenant, Person string
}

// SendMail puts a message on its way: a job in the store transaction of ctx, so
// that the mail is sent if and only if what it tells of happened.
type SendMail func(ctx context.Context, m Mail) error

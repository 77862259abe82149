package notice

import (
	"strings"

	"github.com/chainreactions/chainreactions/domain"
)

// kind is a type of notification: which events are of it, whom they concern, and
// what is said.
type kind struct {
	name    string
	actions []string // of the audit trail; where there are several, the text tells them apart
	to      string   // person, starter, or the field of the event's detail that names somebody; "" is nobody by name
	begun   []string // of starter: the actions by which it was set going
	roles   []string // and who has one of these
	params  []string // the fields of the detail that the text needs
	about   string   // the parameter with the id of the object that is named; "" is the target
	path    string   // of the portal; the object's id is added to one that ends in a stroke
	letters []string // templates of the mails in which a feature says it
	fixed   bool     // always mailed, at once
	text    func(language, title string, m *Notification) string
}

// Whom an event concerns.
const (
	person  = "."  // the target is the person
	starter = ".." // who set the target going
)

var (
	payers    = []string{"owner", "billing"}
	directors = []string{"owner", "admin"}
)

const preferencesPath = "/app/account#notifications"

// usual is how one is told who has not decided: as it was before there were
// preferences, and in the portal.
func (k *kind) usual() Preference {
	p := Preference{Type: k.name, InApp: true, Mail: off, MailFixed: k.fixed}
	if len(k.letters) > 0 {
		p.Mail = once
	}
	return p
}

var kinds = []*kind{
	{name: "import_finished", actions: []string{"import.finish"}, to: starter, begun: []string{"import.start"}, params: []string{"dataset", "rows", "rejected"}, about: "dataset", path: "/app/datasets/",
		text: func(language, title string, m *Notification) string {
			if rejected := m.Params.number("rejected"); rejected > 0 {
				return domain.Sentence(language, "The import into “%s” is done: %d rows were taken and %d were not.", title, m.Params.number("rows"), rejected)
			}
			return domain.Sentence(language, "The import into “%s” is done: %d rows.", title, m.Params.number("rows"))
		}},
	{name: "import_failed", actions: []string{"import.fail"}, to: starter, begun: []string{"import.start"}, params: []string{"dataset"}, about: "dataset", path: "/app/datasets/",
		text: func(language, title string, _ *Notification) string {
			return domain.Sentence(language, "The import into “%s” failed.", title)
		}},
	{name: "match_job_finished", actions: []string{"match_job.finish"}, to: starter, begun: []string{"match_job.start", "match_job.resume"}, params: []string{"rows", "matched"}, path: "/app/match",
		text: func(language, _ string, m *Notification) string {
			return domain.Sentence(language, "A match job is done: %d of %d rows have a match.", m.Params.number("matched"), m.Params.number("rows"))
		}},
	{name: "match_job_failed", actions: []string{"match_job.fail"}, to: starter, begun: []string{"match_job.start", "match_job.resume"}, path: "/app/match",
		text: func(language, _ string, _ *Notification) string {
			return domain.Sentence(language, "A match job failed.")
		}},
	{name: "run_finished", actions: []string{"run.finish"}, to: starter, begun: []string{"run.start", "run.resume"}, params: []string{"partial"}, path: "/app/research/",
		text: func(language, title string, m *Notification) string {
			if m.Params["partial"] == "true" {
				return domain.Sentence(language, "The research on “%s” is done in part; it can be resumed.", title)
			}
			return domain.Sentence(language, "The research on “%s” is done.", title)
		}},
	{name: "run_failed", actions: []string{"run.fail"}, to: starter, begun: []string{"run.start", "run.resume"}, path: "/app/research/",
		text: func(language, title string, _ *Notification) string {
			return domain.Sentence(language, "The research on “%s” failed.", title)
		}},
	{name: "export_ready", actions: []string{"privacy.export_ready"}, to: starter, begun: []string{"privacy.export"}, path: "/app/privacy", letters: []string{"export_ready"},
		text: func(language, _ string, _ *Notification) string {
			return domain.Sentence(language, "Your export is ready.")
		}},
	{name: "member_joined", actions: []string{"member.join"}, to: "invited_by", params: []string{"user"}, about: "user", path: "/app/team",
		text: func(language, title string, _ *Notification) string {
			return domain.Sentence(language, "%s accepted your invitation.", title)
		}},
	{name: "role_changed", actions: []string{"member.update"}, to: "user", params: []string{"to"}, about: "to", path: "/app/team",
		text: func(language, title string, m *Notification) string {
			if role := m.Params["to"]; !domain.ValidID("rol", role) {
				title = domain.Sentence(language, role)
			}
			return domain.Sentence(language, "Your role is now “%s”.", title)
		}},
	{name: "webhook_disabled", actions: []string{"webhook.disable"}, roles: directors, params: []string{"reason"}, path: "/app/webhooks",
		text: func(language, title string, m *Notification) string {
			if m.Params["reason"] == "gone" {
				return domain.Sentence(language, "The webhook endpoint %s said that it is gone, and was disabled.", title)
			}
			return domain.Sentence(language, "The webhook endpoint %s failed for five days, and was disabled.", title)
		}},
	{name: "usage_threshold", actions: []string{"usage.threshold"}, roles: payers, params: []string{"percent"}, path: "/app/usage", letters: []string{"usage_alert", "usage_limit", "usage_overage"},
		text: func(language, _ string, m *Notification) string {
			return domain.Sentence(language, "%d %% of the %s quota is used.", m.Params.number("percent"), m.Target)
		}},
	{name: "payment_failed", actions: []string{"payment.fail"}, roles: payers, params: []string{"amount", "number"}, path: "/app/billing", letters: []string{"payment_failed", "payment_failed_last"},
		text: func(language, _ string, m *Notification) string {
			return domain.Sentence(language, "The payment of %s for invoice %s failed.", m.Params["amount"], m.Params["number"])
		}},
	{name: "payment_recovered", actions: []string{"payment.recover"}, roles: payers, params: []string{"amount", "number"}, path: "/app/billing", letters: []string{"payment_recovered"},
		text: func(language, _ string, m *Notification) string {
			return domain.Sentence(language, "The payment of %s for invoice %s went through after all.", m.Params["amount"], m.Params["number"])
		}},
	{name: "subscription", actions: []string{"subscription.trial_ending", "subscription.grace_ending", "subscription.read_only", "subscription.ended"}, roles: payers, params: []string{"plan", "date"}, path: "/app/billing",
		letters: []string{"trial_ends", "grace_ends", "read_only", "subscription_ended"},
		text: func(language, _ string, m *Notification) string {
			plan, date := m.Params["plan"], m.Params["date"]
			switch m.Params["action"] {
			case "subscription.trial_ending":
				return domain.Sentence(language, "The trial of the plan %s ends on %s.", plan, date)
			case "subscription.grace_ending":
				return domain.Sentence(language, "A payment is late: the plan %s can be used until %s.", plan, date)
			case "subscription.read_only":
				return domain.Sentence(language, "A payment has been late since %s: the workspace can only be read.", date)
			}
			return domain.Sentence(language, "The subscription to the plan %s has ended.", plan)
		}},
	{name: "person_request", actions: []string{"privacy.person_request"}, roles: directors, params: []string{"due_at"}, path: "/app/privacy", letters: []string{"person_request"}, fixed: true,
		text: func(language, _ string, m *Notification) string {
			due, _, _ := strings.Cut(m.Params["due_at"], "T")
			return domain.Sentence(language, "Somebody who stands on your lists asks about their data: answer by %s.", due)
		}},
	{name: "new_device", actions: []string{"session.new_device"}, to: person, path: "/app/security", letters: []string{"new_device"}, fixed: true,
		text: func(language, _ string, _ *Notification) string {
			return domain.Sentence(language, "Your account was signed in to from a device that we had not seen before.")
		}},
	{name: "password_changed", actions: []string{"user.change_password", "user.reset_password"}, to: person, path: "/app/security", letters: []string{"password_changed"}, fixed: true,
		text: func(language, _ string, _ *Notification) string {
			return domain.Sentence(language, "Your password was changed.")
		}},
	{name: "factor_changed", actions: []string{"user.change_email", "user.totp_enable", "user.totp_disable", "user.use_recovery_code", "user.passkey_add", "user.passkey_remove", "identity.link", "identity.unlink"},
		to: person, path: "/app/security", letters: []string{"factor_changed"}, fixed: true,
		text: func(language, _ string, m *Notification) string {
			switch m.Params["action"] {
			case "user.change_email":
				return domain.Sentence(language, "The e-mail address of your account was changed.")
			case "user.totp_enable":
				return domain.Sentence(language, "An authenticator app was added to your account.")
			case "user.totp_disable":
				return domain.Sentence(language, "The authenticator app was removed from your account.")
			case "user.use_recovery_code":
				return domain.Sentence(language, "A recovery code of yours was used.")
			case "user.passkey_add":
				return domain.Sentence(language, "A passkey was added to your account.")
			case "user.passkey_remove":
				return domain.Sentence(language, "A passkey was removed from your account.")
			case "identity.link":
				return domain.Sentence(language, "Sign-in through another provider was added to your account.")
			}
			return domain.Sentence(language, "Sign-in through another provider was removed from your account.")
		}},
	{name: "impersonation", actions: []string{"impersonation.start"}, to: person, path: "/app/security", letters: []string{"impersonation"}, fixed: true,
		text: func(language, _ string, _ *Notification) string {
			return domain.Sentence(language, "One of our administrators acts in your name, to help; you can end it.")
		}},
}

var byName, byAction, byLetter = index()

func index() (name, action, letter map[string]*kind) {
	name, action, letter = map[string]*kind{}, map[string]*kind{}, map[string]*kind{}
	for _, k := range kinds {
		name[k.name] = k
		for _, a := range k.actions {
			action[a] = k
		}
		for _, l := range k.letters {
			letter[l] = k
		}
	}
	return name, action, letter
}

var _ = domain.Chinese(map[string]string{
	"owner": "所有者", "admin": "管理员", "analyst": "分析员", "viewer": "查看者", "billing": "账务",
	"The import into “%s” is done: %d rows were taken and %d were not.":        "导入“%s”已完成：采纳 %d 行，拒绝 %d 行。",
	"The import into “%s” is done: %d rows.":                                   "导入“%s”已完成：共 %d 行。",
	"The import into “%s” failed.":                                             "导入“%s”失败。",
	"A match job is done: %d of %d rows have a match.":                         "匹配任务已完成：%[2]d 行中有 %[1]d 行匹配。",
	"A match job failed.":                                                      "匹配任务失败。",
	"The research on “%s” is done in part; it can be resumed.":                 "对“%s”的研究已部分完成；可以继续。",
	"The research on “%s” is done.":                                            "对“%s”的研究已完成。",
	"The research on “%s” failed.":                                             "对“%s”的研究失败。",
	"Your export is ready.":                                                    "您的导出已就绪。",
	"%s accepted your invitation.":                                             "%s 接受了您的邀请。",
	"Your role is now “%s”.":                                                   "您的角色现为“%s”。",
	"The webhook endpoint %s said that it is gone, and was disabled.":          "webhook 端点 %s 表示已不存在，已被停用。",
	"The webhook endpoint %s failed for five days, and was disabled.":          "webhook 端点 %s 连续五天失败，已被停用。",
	"%d %% of the %s quota is used.":                                           "%[2]s 配额已使用 %[1]d %%。",
	"The payment of %s for invoice %s failed.":                                 "账单 %[2]s 的 %[1]s 付款失败。",
	"The payment of %s for invoice %s went through after all.":                 "账单 %[2]s 的 %[1]s 付款最终成功。",
	"The trial of the plan %s ends on %s.":                                     "套餐 %s 的试用将于 %s 结束。",
	"A payment is late: the plan %s can be used until %s.":                     "付款逾期：套餐 %s 可使用至 %s。",
	"A payment has been late since %s: the workspace can only be read.":        "付款自 %s 起逾期：工作区现为只读。",
	"The subscription to the plan %s has ended.":                               "套餐 %s 的订阅已结束。",
	"Somebody who stands on your lists asks about their data: answer by %s.":   "您列表中的一位人士询问其数据：请于 %s 前答复。",
	"Your account was signed in to from a device that we had not seen before.": "您的账户在一台此前未见过的设备上登录。",
	"Your password was changed.":                                               "您的密码已更改。",
	"The e-mail address of your account was changed.":                          "您账户的电子邮件地址已更改。",
	"An authenticator app was added to your account.":                          "您的账户已添加身份验证器应用。",
	"The authenticator app was removed from your account.":                     "您的账户已移除身份验证器应用。",
	"A recovery code of yours was used.":                                       "您的一个恢复代码已被使用。",
	"A passkey was added to your account.":                                     "您的账户已添加通行密钥。",
	"A passkey was removed from your account.":                                 "您的账户已移除通行密钥。",
	"Sign-in through another provider was added to your account.":              "您的账户已添加通过其他提供方的登录。",
	"Sign-in through another provider was removed from your account.":          "您的账户已移除通过其他提供方的登录。",
	"One of our administrators acts in your name, to help; you can end it.":    "我们的一位管理员正以您的名义提供协助；您可以随时结束。",
})

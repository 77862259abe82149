package research

import (
	"regexp"
	"strings"
)

// What a sentence does with the tie it names. Words are looked for in folded
// text. The lists are short on purpose: a word here costs true evidence
// wherever it stands for something else. (RE2's \b knows ASCII alone.)

// denials deny wherever they stand in the sentence.
var denials = regexp.MustCompile(`\b(?:den(?:y|ies|ied|ying)|refut(?:e|es|ed|ing)|debunk(?:s|ed)?|disavow(?:s|ed)?|unfounded|untrue|fabricated|hoax|bestreitet|bestritt|dementiert|dementierte|niega|niegan|desmiente|nega|negou|desmentiu|smentisce|smentito|nient)\b` +
	`|\b(?:negó|desmintió|dément)` +
	`|\bno (?:known |formal |official |direct |such |business |financial |institutional |current |further )*(?:ties?|links?|relations?|relationships?|connections?|contracts?|contacts?|agreements?|cooperation|collaborations?|involvement|evidence|partnerships?|associations?|affiliations?|record|stakes?|shares|dealings)\b` +
	`|опроверг|опроверж|отрица|заперечу|спростув|否认|否認|辟谣|不实|不實|否定し|否定する|부인했|부인하|(?:^|[^\pL])(?:نفى|نفت|ينفي|تنفي|تکذیب)`)

// negations deny the clause they stand in.
var negations = regexp.MustCompile(`\b(?:neither|nor|never|without any|cannot)\b` +
	`|\b(?:is|are|was|were|has|have|had|does|do|did|will|would|could|can|may|should|must)(?: not|n't)\b` +
	`|\b(?:nicht|kein|keine|keinen|keinerlei|keiner|nie|niemals|weder|aucun|aucune|jamais|nunca|tampoco|ninguna|nenhum|nenhuma|nessun|nessuna)\b|\b(?:jamás|ningún|não )` +
	`|\bn(?:e |')[\pL' -]{1,40} pas\b|\bno (?:tiene|tienen|existe|existen|hay|es|son|ha|han|firm|colabora|mantiene|participa)|\bnon (?:ha|hanno|è|sono|collabora|esiste|partecipa)` +
	`|(?:^|[^\pL])(?:не|нет|ни|никогда|никаких|никакого|немає|жодн\pL*)(?:$|[^\pL])` +
	`|没有|沒有|并无|並無|从未|從未|并未|並未|未曾|未与|未與|不存在|无关|無關|尚未|不属于|不屬於|并非|並非` +
	`|していない|しておらず|していません|ではない|ではなく|ではありません|存在しない|無関係|関係はない|関係がない` +
	`|않았|않는|않다|아니다|없다|없으며|없었` +
	`|(?:^|[^\pL])(?:لا|لم|لن|ليس|ليست|نیست|ندارد)(?:$|[^\pL])`)

// falseFriends look like one of these and are none; they are taken out first.
var falseFriends = regexp.MustCompile(`\b(?:not|nicht|pas|não|non|no) (?:only|just|merely|solely|nur|seulement|só|solo|apenas|sólo)` +
	`|\b(?:is|are|was|were|has|have|had|does|do|did|will|would|could)(?: not|n't) (?:yet )?(?:been )?(?:respond|comment|disclose|publicly|public|made public|immediately|until|reply|say how|specif|unusual|surprising|reveal|announce)\w*` +
	`|\bden(?:y|ies|ied|ying) (?:any )?(?:wrongdoing|the charges|comment|entry|access|visas?)\b|\bno doubt\b|\bno less than\b` +
	`|(?:^|[^\pL])не только|не раскрыва\pL*|不仅|不只|不但|だけでなく|뿐만 아니라`)

// rumours leave open whether it is so.
var rumours = regexp.MustCompile(`\b(?:alleged|allegedly|alleges|rumou?red|rumou?rs?|reportedly|purported|purportedly|supposedly|unconfirmed|speculat\w+|may have|might have|angeblich|mutmasslich|gerücht\w*|prétendument|rumeurs?|supuestamente|presuntamente|rumores?|alegadamente)\b` +
	`|якобы|предположительно|по слухам|ймовірно|据传|據傳|传闻|傳聞|疑似|未经证实|未經證實|据称|噂|未確認|소문|의혹|يُزعم|مزعوم|شائعات`)

// retraction of what the sentence before said.
var retraction = regexp.MustCompile(`^(?:this|that|these|those|the (?:claim|report|story|article|allegation|statement)s?|both|it|das|dies|cette|esto|esta|это|эта|这|該|该|これ)[^.]{0,60}(?:false|untrue|incorrect|unfounded|denied|denies|retracted|withdrawn|hoax|falsch|faux|falso|falsa|ложь|не соответствует|опроверг|不实|虚假|失实|虚偽|誤り)`)

// instructions are sentences that speak to whoever reads the page by machine.
var instructions = regexp.MustCompile(`\b(?:ignore|disregard|forget|override)\b[^.]{0,40}\b(?:previous|prior|above|all|earlier|any|these|your|system)\b[^.]{0,30}\b(?:instruction|prompt|rule|direction|guideline|context)s?` +
	`|\b(?:system|developer) ?(?:prompt|message|override)\b|\b(?:assistant|system) ?:` +
	`|\byou are (?:now |an? |the )+(?:ai|assistant|language model|llm|chatbot|helpful|research assistant)` +
	`|\bas an? (?:ai|language model)\b|\b(?:llm|language model|ai (?:agent|assistant|model|system|tool)|chatbot|crawler|summari[sz]er)s?\b[^.]{0,60}\b(?:must|should|please|report|output|reply|respond|answer|say|mark|treat|include|conclude)\b` +
	`|\b(?:note|attention|message|instruction)s? (?:to|for) (?:the |all |any )?(?:ai|assistant|model|llm|language|automated|tool|bot|crawler)` +
	`|(?:^|please |must |always |then |: )(?:report|output|respond|reply|answer|conclude|classify|mark|label|return|state)\b[^.]{0,60}\b(?:as (?:direct|verified|confirmed|true)|relationship_type|verdict|no evidence found|"direct"|json)` +
	`|\b(?:do not|don't) (?:mention|reveal|report|tell|include)\b[^.]{0,60}\b(?:instruction|user|prompt|analyst)` +
	`|忽略[^。]{0,12}(?:指令|指示|提示|说明)|无视[^。]{0,12}(?:指令|指示)|作为(?:人工智能|ai|语言模型)|请(?:将|把)?[^。]{0,20}(?:标记|报告|输出|判定)为` +
	`|игнорируй\pL*[^.]{0,40}(?:инструкци|указани)|ignorier\w*[^.]{0,40}anweisung|ignore[zr]?[^.]{0,40}(?:instructions|consignes)|ignor[ea][^.]{0,40}(?:instrucciones|instruções)|(?:以前|上記|これまで)の(?:指示|命令)を無視|이전 (?:지시|명령)[^.]{0,10}무시|تجاهل[^.]{0,30}(?:التعليمات|الأوامر)`)

// tone is what a sentence does with what it says.
type tone struct{ denied, hearsay, instruction bool }

// clauses part a sentence where a negation of one half says nothing of the other.
var clauses = regexp.MustCompile(`; |, but |,? whereas |,? while |,? although |,? however,? |,? though |, sondern |, aber |, mais |, pero |, mas |, но |, а |；|，但|但是|，而|が、|지만`)

// toneOf reads the tone of the sentences that a quote stands in. ends counts
// how many ends of the tie a clause names: a negation counts in the last of
// the clauses that name most. next is the sentence after.
func toneOf(own, next string, ends func(clause string) int) tone {
	t := tone{instruction: instructions.MatchString(fold(own)), hearsay: rumours.MatchString(fold(own))}
	meant, most := "", 0
	for from, rest := 0, clauses.FindAllStringIndex(own, -1); ; {
		to, after := len(own), -1
		if len(rest) > 0 {
			to, after, rest = rest[0][0], rest[0][1], rest[1:]
		}
		if n := ends(own[from:to]); n > 0 && n >= most {
			meant, most = own[from:to], n
		}
		if after < 0 {
			break
		}
		from = after
	}
	calm := func(s string) string { return falseFriends.ReplaceAllString(fold(s), " ") }
	t.denied = denials.MatchString(calm(own)) || negations.MatchString(calm(meant)) || retraction.MatchString(strings.TrimSpace(fold(next)))
	return t
}

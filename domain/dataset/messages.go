package dataset

import "github.com/chainreactions/chainreactions/domain"

var _ = domain.Chinese(map[string]string{
	"At most %d characters.":                              "最多 %d 个字符。",
	"Control characters are not allowed.":                 "不允许使用控制字符。",
	"A name is required.":                                 "必须填写名称。",
	"A word is required.":                                 "必须填写词语。",
	"An http or https address is required.":               "必须是 http 或 https 地址。",
	"The mode is append or replace.":                      "模式只能是 append 或 replace。",
	"A file is required.":                                 "必须提供文件。",
	"The file is empty.":                                  "文件为空。",
	"The file is over %d MB.":                             "文件超过 %d MB。",
	"The upload ended before the file did.":               "上传在文件结束之前中断。",
	"The uploaded file is not there any more.":            "上传的文件已不存在。",
	"The import has ended already.":                       "导入已经结束。",
	"The work could not be finished.":                     "任务未能完成。",
	"The mapping is a JSON object of headers and fields.": "映射须为由列标题和字段组成的 JSON 对象。",
	"%s":                                  "%s",
	"%s (line %d)":                        "%s（第 %d 行）",
	"There is no such country.":           "没有这个国家或地区。",
	"The format is csv, jsonl or ftm.":    "格式只能是 csv、jsonl 或 ftm。",
	"From %d to %d items.":                "应有 %d 到 %d 项。",
	"A number from %v to %v is required.": "必须是 %v 到 %v 之间的数。",
	"At least one weight of a name must be above zero.": "名称的权重至少有一个须大于零。",
	"This is not a query.":                              "这不是一个查询。",
	"The dataset is changing too fast to be read.":      "数据集变化过快，无法读取。",
	"The caller went away.":                             "调用方已断开。",
})

package sheet

import (
	"errors"
	"fmt"

	"github.com/chainreactions/chainreactions/domain"
)

// Codes of a FileError: the file is unusable from the line on.
const (
	EmptyFile         = "empty_file"
	NoHeader          = "no_header"
	NoNameColumn      = "no_name_column"
	DuplicateHeader   = "duplicate_header"
	InvalidMapping    = "invalid_mapping"
	TooManyColumns    = "too_many_columns"
	RowTooLong        = "row_too_long"
	TooManyOpenQuotes = "too_many_open_quotes"
	UnsupportedFormat = "unsupported_format"
	UnsupportedText   = "unsupported_encoding"
	WorkbookTooLarge  = "workbook_too_large"
	DamagedWorkbook   = "damaged_workbook"
	NoSheet           = "no_sheet"
)

// Codes of an Issue that rejects its row. A header with one of the first two
// is a FileError.
const (
	NULByte       = "nul_byte"
	OpenQuote     = "open_quote"
	MissingName   = "missing_name"
	RaggedRow     = "ragged_row"
	InvalidJSON   = "invalid_json"
	InvalidEntity = "invalid_entity"
	NotListed     = "not_listed"
)

// Codes of an Issue that keeps its row. CellTooLong rejects it where the cell
// is the name.
const (
	ShortRow         = "short_row"
	CellTooLong      = "cell_too_long"
	BadEncoding      = "bad_encoding"
	StrayQuote       = "stray_quote"
	InvalidDate      = "invalid_date"
	InvalidLatitude  = "invalid_latitude"
	InvalidLongitude = "invalid_longitude"
	InvalidURL       = "invalid_url"
	FormulaError     = "formula_error"
	UnknownSchema    = "unknown_schema"
	UnknownCountry   = "unknown_country" // told by whoever knows countries
	NameFromAlias    = "name_from_alias"
)

// Messages are the sentences of every code, in English and in Simplified
// Chinese.
var Messages = map[string][2]string{
	EmptyFile:         {"The file has no rows.", "文件没有任何行。"},
	NoHeader:          {"The first row is no header: none of its cells is a column that is understood.", "首行不是标题行：没有可识别的列名。"},
	NoNameColumn:      {"No column holds the names; call one \"name\".", "没有名称列；请将其命名为“name”。"},
	DuplicateHeader:   {"Two columns have the same header.", "两列的标题相同。"},
	InvalidMapping:    {"The mapping of columns does not fit the file.", "列映射与文件不符。"},
	TooManyColumns:    {"The file has too many columns.", "文件的列过多。"},
	RowTooLong:        {"A row is longer than is allowed; is it a list, with one entity in each row?", "某行超过允许的长度；该文件是否为每行一个实体的名单？"},
	TooManyOpenQuotes: {"Too many rows open a quote and do not close it.", "太多行的引号未闭合。"},
	UnsupportedFormat: {"This is not a file that can be read: CSV, TSV, XLSX or FollowTheMoney JSON Lines.", "无法读取该文件：支持 CSV、TSV、XLSX 或 FollowTheMoney JSON Lines。"},
	UnsupportedText:   {"The text is in an encoding that is not read; save the file as UTF-8.", "不支持该文本编码；请将文件另存为 UTF-8。"},
	WorkbookTooLarge:  {"The workbook is too large; save the list as CSV.", "工作簿过大；请将名单另存为 CSV。"},
	DamagedWorkbook:   {"The workbook is damaged.", "工作簿已损坏。"},
	NoSheet:           {"The workbook has no such sheet.", "工作簿中没有该工作表。"},
	NULByte:           {"A cell has a NUL byte.", "单元格含有 NUL 字节。"},
	OpenQuote:         {"A quote is opened and not closed in its cell.", "单元格中的引号未闭合。"},
	MissingName:       {"The row has no name.", "该行没有名称。"},
	RaggedRow:         {"The row has more cells than the header.", "该行的单元格多于标题。"},
	InvalidJSON:       {"The line is not JSON.", "该行不是 JSON。"},
	InvalidEntity:     {"The line is not a FollowTheMoney entity.", "该行不是 FollowTheMoney 实体。"},
	NotListed:         {"An entity of this schema is not matched by name and is left out.", "该类型的实体不按名称匹配，已略去。"},
	ShortRow:          {"The row has fewer cells than the header; the rest are empty.", "该行的单元格少于标题；其余按空处理。"},
	CellTooLong:       {"The cell is longer than is allowed; it is cut.", "单元格超过允许的长度；已截断。"},
	BadEncoding:       {"The text is not valid in the encoding of the file.", "文本与文件编码不符。"},
	StrayQuote:        {"The quotes of the cell do not match; it is kept as it is.", "单元格的引号不匹配；已按原样保留。"},
	InvalidDate:       {"This is not a date; it is kept as a property.", "不是日期；已作为属性保留。"},
	InvalidLatitude:   {"This is not a latitude; it is kept as a property.", "不是纬度；已作为属性保留。"},
	InvalidLongitude:  {"This is not a longitude; it is kept as a property.", "不是经度；已作为属性保留。"},
	InvalidURL:        {"This is not a web address; it is kept as a property.", "不是网址；已作为属性保留。"},
	FormulaError:      {"The formula of the cell has no value; it is taken as empty.", "单元格的公式没有值；按空处理。"},
	UnknownSchema:     {"The FollowTheMoney model has no such schema.", "FollowTheMoney 模型中没有该类型。"},
	UnknownCountry:    {"This is no country that is known; it is kept as a property.", "无法识别该国家或地区；已作为属性保留。"},
	NameFromAlias:     {"The entity has no name; its first alias is taken for it.", "该实体没有名称；以其第一个别名代替。"},
}

var _ = func() bool {
	sentences := make(map[string]string, len(Messages))
	for _, m := range Messages {
		sentences[m[0]] = m[1]
	}
	return domain.Chinese(sentences)
}()

// FileError makes the whole file unusable from Line on. Message is the English
// sentence with the detail; In gives it in another language.
type FileError struct {
	Code, Message string
	Line          int64
	Detail        string   // what is meant, e.g. a header: of the file, so not translated
	Columns       []Column // those that were found, where the header is what is wrong
}

func fault(code string, line int64, detail string, args ...any) *FileError {
	e := &FileError{Code: code, Line: line, Detail: fmt.Sprintf(detail, args...)}
	e.Message = e.In("en")
	return e
}

// In gives the message in "zh" or English.
func (e *FileError) In(language string) string {
	m := domain.Sentence(language, Messages[e.Code][0])
	if e.Detail != "" {
		m += " (" + e.Detail + ")"
	}
	return m
}

func (e *FileError) Error() string {
	return fmt.Sprintf("%s at line %d: %s", e.Code, e.Line, e.Message)
}

// IsFileError reports the code of a FileError in err, or "".
func IsFileError(err error) string {
	var f *FileError
	if errors.As(err, &f) {
		return f.Code
	}
	return ""
}

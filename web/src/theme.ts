import { createTheme, type MantineColorsTuple } from '@mantine/core';

// One blue, dark enough that white text on it and it on white both pass AA.
const ink: MantineColorsTuple = ['#eaf3fc', '#d3e4f6', '#a5c8ee', '#74aae5', '#4d90de', '#357fda', '#1f6cc7', '#0b5cad', '#084f99', '#044186'];

export const theme = createTheme({
  primaryColor: 'ink',
  primaryShade: { light: 7, dark: 7 },
  colors: { ink },
  defaultRadius: 'md',
  fontFamily: 'Inter, system-ui, -apple-system, "Segoe UI", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif',
  fontFamilyMonospace: 'ui-monospace, SFMono-Regular, Menlo, Consolas, monospace',
  headings: { fontWeight: '650' },
  autoContrast: true,
  focusRing: 'auto',
  cursorType: 'pointer',
  components: {
    // A bare span may not have a name.
    Loader: { defaultProps: { role: 'status' } },
    // A dialog's head is a <header>, which would be a second banner of the page.
    ModalHeader: { defaultProps: { role: 'none' } },
  },
});

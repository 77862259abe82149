import { TextInput } from '@mantine/core';

/** A day, by the browser's own picker: it knows the reader's calendar and keys. */
export function DateInput({ label, value, onChange }: { label: string; value: string; onChange: (day: string) => void }) {
  return <TextInput type="date" label={label} value={value} onChange={(e) => onChange(e.currentTarget.value)} />;
}

import '@mantine/charts/styles.css';
import { BarChart, type BarChartProps } from '@mantine/charts';

/** Bars over time or kinds. What they show stands in a table or in words too. */
export function Chart({ label, ...props }: { label: string } & BarChartProps) {
  return (
    <figure aria-label={label} style={{ margin: 0 }}>
      <BarChart h={220} gridAxis="x" tickLine="none" withTooltip barChartProps={{ accessibilityLayer: false }} barProps={{ isAnimationActive: false }} {...props} />
    </figure>
  );
}

// What the dashboards use of Grafana's model, from @grafana/schema: the test appends each dashboard, `satisfies Page`.
import type { Dashboard, DataQuery, FieldConfig, Panel, RowPanel } from '@grafana/schema';
import type { GraphFieldConfig } from '@grafana/schema';
import type { Options as BarGauge } from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type { Options as Heatmap } from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type { Options as Stat } from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type { Options as TimeSeries } from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// JSON holds the values of enums, not their names.
type Wire<T> = T extends string ? `${T}`
  : T extends Array<infer Item> ? Wire<Item>[]
  : T extends object ? { [Key in keyof T]: Wire<T[Key]> }
  : T;

// The query of the Prometheus data source is not in the schema package any more; these are the fields it reads.
interface PrometheusQuery extends Required<Pick<DataQuery, 'refId' | 'datasource'>> {
  expr: string;
  legendFormat: string;
  format: 'time_series' | 'table' | 'heatmap';
  range: boolean;
  instant: boolean;
  editorMode: 'code' | 'builder';
}

type Own = 'type' | 'targets' | 'options' | 'fieldConfig';
type Given = 'id' | 'title' | 'description' | 'gridPos' | 'datasource';
interface Shown<Type extends string, Options, Custom>
  extends Omit<Panel, Own | Given>, Required<Pick<Panel, Given>> {
  type: Type;
  targets: PrometheusQuery[];
  options: Options;
  fieldConfig: { defaults: Omit<FieldConfig, 'custom'> & { unit: string; custom?: Custom }; overrides: never[] };
}

type Picture = Shown<'timeseries', TimeSeries, GraphFieldConfig>
  | Shown<'stat', Stat, never>
  | Shown<'bargauge', BarGauge, never>
  | Shown<'heatmap', Heatmap, never>;

interface AlertMarks extends Pick<DataQuery, 'refId'> { expr: string; }
type Annotation = { name: string; datasource: DataQuery['datasource']; enable: boolean; iconColor: string; target: AlertMarks };

export type Page = Wire<
  Omit<Dashboard, 'panels' | 'annotations'> & Required<Pick<Dashboard, 'uid' | 'title' | 'templating'>>
  & { panels: Array<Picture | RowPanel>; annotations: { list: Annotation[] } }
>;

-- Views for dashboards and reports, which may be read by a role that has no other right. Nothing in the program reads them.

CREATE VIEW health_readings AS
SELECT user_id, timestamp, source, heart_rate, steps, calories FROM health_metrics;

-- Local days, in the time zone of the session. In each slice of 15 minutes, the source with the most steps counts for steps and
-- the one with the most calories for calories, as in every total of the program.
CREATE VIEW health_days AS
SELECT user_id, day, sum(samples)::bigint AS samples,
    sum(heart_rates) / nullif(sum(readings), 0) AS average_heart_rate,
    min(min_heart_rate) AS min_heart_rate, max(max_heart_rate) AS max_heart_rate,
    coalesce(sum(steps), 0)::bigint AS steps, coalesce(sum(calories), 0) AS calories
FROM (
    SELECT user_id, day, slice, sum(samples) AS samples, sum(heart_rates) AS heart_rates, sum(readings) AS readings,
        min(min_heart_rate) AS min_heart_rate, max(max_heart_rate) AS max_heart_rate,
        max(steps) AS steps, max(calories) AS calories
    FROM (
        SELECT user_id, date_trunc('day', timestamp) AS day, date_bin('15 minutes', timestamp, '2000-01-01T00:00:00Z') AS slice,
            source, count(*) AS samples, sum(heart_rate) AS heart_rates, count(heart_rate) AS readings,
            min(heart_rate) AS min_heart_rate, max(heart_rate) AS max_heart_rate,
            sum(steps) AS steps, sum(calories) AS calories
        FROM health_metrics
        GROUP BY user_id, day, slice, source
    ) AS of_source
    GROUP BY user_id, day, slice
) AS of_slice
GROUP BY user_id, day;

COMMENT ON VIEW health_readings IS 'the samples, for dashboards';
COMMENT ON VIEW health_days IS 'the totals of each user and local day; SET timezone chooses where a day begins';
